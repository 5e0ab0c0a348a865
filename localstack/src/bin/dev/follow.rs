//! The live view: each event with its agents and effects, and a line that sums up.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use switchyard_localstack::Error;
use switchyard_store::{State, Store, StoreError};

use crate::signals::Stop;
use crate::style::{BOLD, DIM, RED, YELLOW, count, paint, print_line};
use crate::tree;
use crate::watch::{News, Watch};

/// Between two looks: quick enough to look live, and one cheap query.
const PAUSE: Duration = Duration::from_millis(250);

/// Shows what happens after a place in the event log, until `stop`. `check` is asked between two looks whether the servers live.
pub(crate) async fn follow(
    store: &Store,
    after: i64,
    stop: &Stop,
    mut check: impl FnMut() -> Result<(), Error>,
) -> Result<(), Error> {
    let mut watch = Watch::after(after);
    let mut totals = Totals::default();
    let bar = std::io::stderr().is_terminal().then(summary_bar);
    let mut unavailable = false;
    while !stop.asked() {
        check()?;
        match watch.news(store).await {
            Ok(news) => {
                unavailable = false;
                for news in news {
                    totals.add(&news);
                    show(bar.as_ref(), &tree::render(&news.event, news.cause.as_deref()));
                }
                if let Some(bar) = &bar {
                    bar.set_message(totals.line(&watch));
                }
            }
            // A pause of the database is no reason to leave; `check` tells when it has died.
            Err(StoreError::Unavailable { .. }) if !stop.asked() => {
                if !unavailable {
                    show(bar.as_ref(), &[paint(YELLOW, "the database does not answer; waiting for it")]);
                }
                unavailable = true;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    print_line(totals.line(&watch));
    Ok(())
}

fn show(bar: Option<&ProgressBar>, lines: &[String]) {
    use std::io::Write;

    let print = || {
        let mut out = anstream::stdout().lock();
        for line in lines {
            let _ = writeln!(out, "{line}");
        }
    };
    match bar {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

fn summary_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let style =
        ProgressStyle::with_template("{spinner:.green} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    bar.set_style(style);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// What has been seen since the start. Keyed, since an event can be news more than once.
#[derive(Debug, Default)]
struct Totals {
    deliveries: BTreeMap<i64, (u64, u64, u64)>,
}

impl Totals {
    fn add(&mut self, news: &News) {
        let states = || news.event.deliveries.iter().filter_map(|delivery| delivery.state);
        let number = |wanted: State| states().filter(|state| *state == wanted).count() as u64;
        self.deliveries.insert(news.event.seq, (number(State::Done), number(State::Failing), number(State::Parked)));
    }

    fn line(&self, watch: &Watch) -> String {
        let (done, failing, parked) =
            self.deliveries.values().fold((0, 0, 0), |sum, event| (sum.0 + event.0, sum.1 + event.1, sum.2 + event.2));
        let mut parts = vec![paint(BOLD, count(watch.total(), "event")), format!("{} done", count(done, "delivery"))];
        if watch.open() > 0 {
            parts.push(format!("{} under way", watch.open()));
        }
        if failing > 0 {
            parts.push(paint(YELLOW, format!("{failing} failing")));
        }
        if parked > 0 {
            parts.push(paint(RED, format!("{parked} parked")));
        }
        parts.join(&paint(DIM, " · "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{delivery, event};

    #[test]
    fn an_event_that_is_news_twice_counts_once() {
        let mut totals = Totals::default();
        let news = |state| News { event: event(vec![delivery("sentiment", Some(state))]), cause: None };
        totals.add(&news(State::Failing));
        totals.add(&news(State::Done));
        let line = anstream::adapter::strip_str(&totals.line(&Watch::after(0))).to_string();
        assert!(line.contains("1 delivery done") && !line.contains("failing"), "{line}");
    }
}
