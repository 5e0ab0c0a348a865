//! The steps of `up`, as a person sees them: a spinner or a bar while a step goes on, one line when it is done. Where nobody
//! watches (a pipe, a log file) only plain lines remain.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use switchyard_localstack::Error;
use switchyard_localstack::progress::Tick;

use crate::style::{DIM, GREEN, RED, eprint_line, paint};

/// The steps of one command. Several may go on at once, in different threads.
#[derive(Debug)]
pub(crate) struct Steps {
    bars: Option<MultiProgress>,
    over: Arc<AtomicBool>,
}

impl Steps {
    /// Bars when standard error is a terminal.
    pub(crate) fn new() -> Steps {
        Steps { bars: std::io::stderr().is_terminal().then(MultiProgress::new), over: Arc::default() }
    }

    /// Does a step; `work` returns its result and a few words on what came of it.
    pub(crate) fn run<T>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Step) -> Result<(T, String), Error>,
    ) -> Result<T, Error> {
        let step = self.begin(name);
        match work(&step) {
            Ok((result, note)) => {
                step.done(&note);
                Ok(result)
            }
            Err(error) => {
                step.failed();
                Err(error)
            }
        }
    }

    /// Begins a step.
    fn begin(&self, name: &'static str) -> Step {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_style(spinner());
            bar.set_prefix(name);
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Step {
            name,
            began: Instant::now(),
            bar,
            bars: self.bars.clone(),
            over: Arc::clone(&self.over),
            shown: Mutex::default(),
        }
    }

    /// Removes every bar and lets no step say anything more: one has failed, or the user wants to leave, and what becomes of the others
    /// is of no interest.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(bars) = &self.bars {
            let _ = bars.clear();
        }
    }
}

/// A step that goes on.
#[derive(Debug)]
pub(crate) struct Step {
    name: &'static str,
    began: Instant,
    bar: Option<ProgressBar>,
    bars: Option<MultiProgress>,
    over: Arc<AtomicBool>,
    shown: Mutex<Shown>,
}

/// How much of a step a plain log has shown.
#[derive(Debug, Default)]
struct Shown {
    quarter: u64,
    at: Option<Instant>,
}

impl Step {
    /// Shows how far it is.
    pub(crate) fn tick(&self, tick: Tick<'_>) {
        match &self.bar {
            Some(bar) => {
                if tick.of > 0 {
                    if bar.length() != Some(tick.of) {
                        bar.set_style(measured());
                    }
                    bar.set_length(tick.of);
                    bar.set_position(tick.done);
                }
                bar.set_message(tick.what.to_owned());
            }
            None => self.log(tick),
        }
    }

    /// A line for each quarter of the way, and none for what takes no time.
    fn log(&self, tick: Tick<'_>) {
        let Ok(mut shown) = self.shown.lock() else { return };
        let quarter = (tick.done * 4).checked_div(tick.of).unwrap_or_default();
        let first = *shown.at.get_or_insert_with(Instant::now);
        if quarter > shown.quarter && quarter < 4 && first.elapsed() > Duration::from_secs(2) {
            eprint_line(format!("  {}: {} of {}", self.name, tick.done, tick.of));
        }
        shown.quarter = shown.quarter.max(quarter);
    }

    /// Ends it well, with a few words on what came of it.
    fn done(self, note: &str) {
        let took = format!("{:.1} s", self.began.elapsed().as_secs_f64());
        let mark = paint(GREEN, "✓");
        self.end(&format!("{mark} {:<11} {note} {}", self.name, paint(DIM, format!("({took})"))));
    }

    /// Ends it as failed. The error is printed once, by the caller.
    fn failed(self) {
        let mark = paint(RED, "✗");
        self.end(&format!("{mark} {}", self.name));
    }

    fn end(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.over.load(Ordering::SeqCst) {
            return;
        }
        match &self.bars {
            Some(bars) => bars.suspend(|| eprint_line(line)),
            None => eprint_line(line),
        }
    }
}

fn spinner() -> ProgressStyle {
    style("{spinner} {prefix:<11} {wide_msg:.dim}")
}

fn measured() -> ProgressStyle {
    style("{spinner} {prefix:<11} {bar:30.green/dim} {pos}/{len} {wide_msg:.dim}")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
