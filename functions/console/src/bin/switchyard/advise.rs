//! `switchyard advise`: when to move at all, and the figures that say so.

use crate::{
    failure::Failure,
    functions::Stack,
    global::Global,
    style::{BOLD, GREEN, YELLOW, cell, count, paint, print_line, table},
    when::{Duration, age},
};
use clap::{Args, ValueEnum};
use std::str::FromStr;
use switchyard_advice::{Advice, Way, Wishes};
use switchyard_operations::{advise::Advised, metrics::Metrics, steward::Request};

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  switchyard advise                                    by what was measured alone
  switchyard advise --latency-wanted 500ms --delivery at-least-once
                                                       and by what is wanted
  switchyard advise --costs                            what each way's bill is made of
  switchyard advise --metrics                          the figures as JSON, for a page of your own")]
pub(crate) struct Advise {
    /// From an event to its reaction, such as 500ms, 1s or 5m
    #[arg(long, value_name = "DURATION")]
    latency_wanted: Option<Latency>,
    /// In how many regions agents run
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=40))]
    regions: Option<u32>,
    /// Which order is to be kept
    #[arg(long, value_enum)]
    ordering: Option<Ordering>,
    /// What may happen to an event
    #[arg(long, value_enum)]
    delivery: Option<Delivery>,
    /// What each way's bill is made of
    #[arg(long)]
    costs: bool,
    /// Only the figures, as JSON: what a team's own page shows
    #[arg(long, conflicts_with_all = ["latency_wanted", "regions", "ordering", "delivery", "costs"])]
    metrics: bool,
}

/// How soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Latency {
    ms: u64,
}

impl FromStr for Latency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ms = match text.strip_suffix("ms") {
            Some(number) => number.parse::<u32>().ok().map(u64::from),
            None => text.parse::<Duration>().ok().map(|span| u64::from(span.secs) * 1_000),
        };
        let ms = ms.ok_or_else(|| format!("{text:?} is no duration: a number and a unit, as in 500ms, 1s or 5m"))?;
        Ok(Self { ms })
    }
}

/// Which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ordering {
    /// None: where state is overwritten, the sequence decides
    None,
    /// The events of an aggregate one after the other
    Aggregate,
}

/// What may happen to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Delivery {
    /// It may be lost
    BestEffort,
    /// It may come twice
    AtLeastOnce,
    /// It may come twice, and what it does happens once
    EffectsOnce,
}

/// The advice, or the figures alone.
pub(crate) async fn run(stack: &Stack, options: Advise, global: &Global) -> Result<(), Failure> {
    if options.metrics {
        return stack.ask_steward::<Metrics>(&Request::Metrics, true).await.map(drop);
    }
    let advised: Advised = stack.ask_steward(&Request::Advise(wishes(&options)), global.json).await?;
    if !global.json {
        print_line(page(&advised, options.costs));
    }
    Ok(())
}

fn wishes(options: &Advise) -> Wishes {
    Wishes {
        latency_wanted_ms: options.latency_wanted.map(|latency| latency.ms),
        regions: options.regions,
        ordering: options.ordering.map(|ordering| match ordering {
            Ordering::None => switchyard_advice::Ordering::None,
            Ordering::Aggregate => switchyard_advice::Ordering::Aggregate,
        }),
        delivery: options.delivery.map(|delivery| match delivery {
            Delivery::BestEffort => switchyard_advice::Delivery::BestEffort,
            Delivery::AtLeastOnce => switchyard_advice::Delivery::AtLeastOnce,
            Delivery::EffectsOnce => switchyard_advice::Delivery::EffectsOnce,
        }),
    }
}

fn page(Advised { metrics, advice }: &Advised, costs: bool) -> String {
    let colour = if advice.recommendation == Way::Stay { GREEN } else { YELLOW };
    let mut page = vec![
        format!("{} {}", paint(colour.bold(), spoken(advice.recommendation)), advice.reason),
        String::new(),
        measured(metrics),
    ];
    let others =
        advice.triggers.iter().skip(1).map(|one| ("also", one)).chain(advice.unfit.iter().map(|one| ("against", one)));
    let others: Vec<String> = others.map(|(word, one)| format!("{word} {}: {one}", one.way)).collect();
    if !others.is_empty() {
        page.push(String::new());
        page.extend(others);
    }
    page.push(String::new());
    page.push(bill(advice, costs));
    page.join("\n")
}

fn spoken(way: Way) -> &'static str {
    match way {
        Way::Stay => "Stay with Postgres:",
        Way::RedisStreams => "Move to Redis Streams:",
        Way::SnsSqs => "Move to SNS and SQS:",
    }
}

fn measured(metrics: &Metrics) -> String {
    let window = age(metrics.window_secs.max(0.0) as u64);
    let about = if metrics.events_estimated { "about " } else { "" };
    let or_unknown = |figure: Option<String>| figure.unwrap_or_else(|| "not known: nothing was settled".to_owned());
    let latency = metrics.avg_latency_ms.zip(metrics.p95_latency_ms);
    let rows = [
        ("events a day", format!("{about}{:.0}", metrics.events_per_day)),
        ("peak", format!("{:.0} a second", metrics.events_per_second_peak)),
        ("agents", format!("{}, each event to {:.1}", metrics.agents_active, metrics.deliveries_per_event)),
        (
            "latency",
            or_unknown(latency.map(|(avg, p95)| format!("{avg:.0} ms on average, 95 of 100 below {p95:.0} ms"))),
        ),
        (
            "failed at least once",
            or_unknown(metrics.error_rate.map(|rate| format!("{:.2} % of deliveries", rate * 100.0))),
        ),
        ("parked", count(metrics.parked, "delivery")),
        (
            "unpublished",
            format!(
                "{}, the first for {}",
                count(metrics.unpublished, "event"),
                age(metrics.oldest_unpublished_secs as u64)
            ),
        ),
        ("connections", format!("{} of {}", metrics.connections, metrics.max_connections)),
    ];
    let rows = rows.into_iter().map(|(what, figure)| vec![cell(what), cell(figure)]).collect();
    format!("{}\n{}", paint(BOLD, format!("Measured over {window}")), table(&["FIGURE", "VALUE"], rows))
}

fn bill(advice: &Advice, costs: bool) -> String {
    let prices = &advice.prices;
    let title =
        format!("A month at this volume, {} list prices of {} in {}", prices.region, prices.as_of, prices.currency);
    let mut page = vec![paint(BOLD, title)];
    let rows = advice.costs.iter().flat_map(|cost| {
        let total = vec![cell(cost.way), cell(""), cell(format!("{:.2}", cost.usd_per_month))];
        let lines = cost.lines.iter().filter(|_| costs).map(|line| {
            let mark = if line.verified { "" } else { " !" };
            let what = format!("{}: {:.0} × {}{mark}", line.what, line.quantity, line.unit);
            vec![cell(""), cell(what), cell(format!("{:.2}", line.usd))]
        });
        std::iter::once(total).chain(lines).collect::<Vec<_>>()
    });
    page.push(table(&["WAY", "FOR", "#A MONTH"], rows.collect()));
    if !prices.unverified.is_empty() {
        let pages = prices.unverified.iter().filter_map(|source| source.split(':').next());
        let mut pages: Vec<&str> = pages.collect();
        pages.dedup();
        let mark = paint(YELLOW, "!");
        page.push(format!("{mark} not verified on the provider's pages: {}", pages.join(", ")));
    }
    page.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;
    use serde_json::json;
    use switchyard_advice::{Advisor, Workload};

    fn parse(line: &str) -> Result<Advise, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace()).map(|parsed| {
            let Command::Advise(advise) = parsed.command else { panic!("{line}") };
            advise
        })
    }

    fn advised(events_per_day: f64, wishes: Wishes) -> Advised {
        let workload = Workload {
            events_per_day,
            peak_per_second: 7.0,
            agents: 2,
            deliveries_per_event: 1.5,
            event_bytes: 500.0,
            connections: 0.3,
        };
        let advice = Advisor::built_in().unwrap().advise(&workload, &wishes).unwrap();
        let metrics = json!({
            "at": "2026-01-05T09:30:00Z", "window_secs": 86_400.0, "events_per_day": events_per_day, "events_estimated": true,
            "events_per_second_peak": 7.0, "avg_event_bytes": 500.0, "agents_active": 2, "deliveries_per_event": 1.5,
            "avg_latency_ms": 45.4, "p95_latency_ms": 80.0, "error_rate": 0.0123, "parked": 1, "unpublished": 0,
            "oldest_unpublished_secs": 0.0, "connections": 30, "max_connections": 100, "recommendation": "stay",
            "recommendation_reason": "", "cost_usd_per_month": {}, "prices_as_of": "2026-11-21", "prices_verified": false, "agents": [],
        });
        Advised { metrics: serde_json::from_value(metrics).unwrap(), advice }
    }

    #[test]
    fn what_is_wanted_is_asked_for_and_nothing_else() {
        let wishes = |line: &str| wishes(&parse(line).unwrap());
        assert_eq!(wishes("switchyard advise"), Wishes::default());
        let line = "switchyard advise --latency-wanted 500ms --regions 2 --ordering aggregate --delivery at-least-once";
        let all = Wishes {
            latency_wanted_ms: Some(500),
            regions: Some(2),
            ordering: Some(switchyard_advice::Ordering::Aggregate),
            delivery: Some(switchyard_advice::Delivery::AtLeastOnce),
        };
        assert_eq!(wishes(line), all);
        assert_eq!(wishes("switchyard advise --latency-wanted 5m").latency_wanted_ms, Some(300_000));
        for wrong in
            ["--latency-wanted soon", "--latency-wanted 1.5s", "--regions 0", "--ordering total", "--metrics --costs"]
        {
            assert!(parse(&format!("switchyard advise {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_page_says_what_to_do_why_and_what_it_costs() {
        let page = page(&advised(1_000.0, Wishes::default()), false);
        for words in [
            "Stay with Postgres:",
            "no threshold is reached",
            "Measured over 1d 0h",
            "about 1000",
            "45 ms on average",
            "1.23 % of deliveries",
            "30 of 100",
            "list prices of 2026-11-21",
            "not verified on the provider's pages: Amazon SNS pricing",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert!(!page.contains("into and out of the queues"), "{page}");
    }

    #[test]
    fn a_bill_names_its_lines_and_marks_what_was_not_verified() {
        let page = page(&advised(2e6, Wishes { latency_wanted_ms: Some(500), ..Wishes::default() }), true);
        for words in [
            "Move to SNS and SQS:",
            "also redis_streams: events_per_day",
            "our threshold",
            "into and out of the queues",
            " !",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
    }
}
