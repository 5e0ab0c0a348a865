//! `switchyard compare`: what an agent in shadow mode decides, against what the old system does.

use crate::{
    failure::Failure,
    functions::Stack,
    global::Global,
    style::{BOLD, DIM, RED, YELLOW, alarming, cell, count, paint, print_line, short, table},
    when::Ago,
};
use clap::{Args, ValueEnum};
use comfy_table::{Cell, Color};
use jiff::Timestamp;
use serde_json::Value;
use std::path::{Path, PathBuf};
use switchyard_operations::{
    compare::{CompareRequest, Compared, Line, Overview, Period, Report, Shown, Trend},
    steward::Request,
};

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  switchyard compare                                   every agent that is compared
  switchyard compare sentiment --mapping compare.toml  say what of the old system answers which decision
  switchyard compare sentiment --since 2h              how it came out, hour by hour, and what differs
  switchyard compare sentiment --examples 10 --values  with both sides' values, which the audit remembers
  switchyard compare sentiment --stop                  compare it no longer")]
pub(crate) struct Compare {
    /// The agent; all that are compared when left out
    pub(crate) agent: Option<String>,
    /// Since when: a time (2026-01-05T09:30:00Z) or how long ago (90m, 2h, 3d) [default: 7d]
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<Ago>,
    /// The steps of the trend
    #[arg(long, value_enum, default_value_t = Step::Hour, value_name = "STEP", requires = "agent")]
    pub(crate) by: Step,
    /// How many examples of each outcome
    #[arg(long, default_value_t = 3, value_name = "N", requires = "agent", value_parser = clap::value_parser!(u8).range(0..=50))]
    pub(crate) examples: u8,
    /// Show both sides' values of the examples; they are payload, and the audit keeps who asked
    #[arg(long, requires = "agent")]
    pub(crate) values: bool,
    /// A file with the mapping, TOML or JSON: the agent is compared by it from now on, its latest decisions too
    #[arg(long, value_name = "FILE", requires = "agent", conflicts_with_all = ["since", "by", "examples", "values"])]
    pub(crate) mapping: Option<PathBuf>,
    /// Compare the agent no longer, and forget what was counted
    #[arg(long, requires = "agent", conflicts_with_all = ["mapping", "since", "by", "examples", "values"])]
    pub(crate) stop: bool,
}

/// A step of a trend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// By the hour
    Hour,
    /// By the day, in UTC
    Day,
}

/// How many steps of a trend are shown; the answer as JSON has them all.
const STEPS: usize = 24;
/// How much of a value is shown.
const LONGEST_VALUE: usize = 60;

pub(crate) async fn run(stack: &Stack, options: Compare, global: &Global) -> Result<(), Failure> {
    let request = Request::Compare(Box::new(request(&options, &global.operator, Timestamp::now())?));
    if options.agent.is_none() {
        let overview: Overview = stack.ask_steward(&request, global.json).await?;
        if !global.json {
            print_line(all(&overview));
        }
        return Ok(());
    }
    let report: Report = stack.ask_steward(&request, global.json).await?;
    if !global.json {
        print_line(page(&report));
    }
    Ok(())
}

fn request(options: &Compare, operator: &str, now: Timestamp) -> Result<CompareRequest, Failure> {
    let since = options.since.map(|since| since.as_of(now));
    let Some(agent) = options.agent.clone() else { return Ok(CompareRequest::Overview { since }) };
    let operator = operator.to_owned();
    Ok(match &options.mapping {
        Some(file) => CompareRequest::Set { agent, mapping: mapping(file)?, operator },
        None if options.stop => CompareRequest::Drop { agent, operator },
        None => {
            let by = match options.by {
                Step::Hour => Period::Hour,
                Step::Day => Period::Day,
            };
            let values = options.values.then_some(operator);
            CompareRequest::Report { agent, since, by, examples: options.examples.into(), values }
        }
    })
}

/// A mapping as the steward takes it. Whether it says something that can be compared, the steward tells.
fn mapping(file: &Path) -> Result<Value, Failure> {
    let unreadable = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(&error))?;
    if file.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(&text).map_err(|error| unreadable(&error))
    } else {
        toml::from_str(&text).map_err(|error| unreadable(&error))
    }
}

fn all(overview: &Overview) -> String {
    if overview.agents.is_empty() {
        return "no agent is compared: `switchyard compare AGENT --mapping FILE` says with what".to_owned();
    }
    let rows = overview.agents.iter().map(|line| {
        let mut row = vec![cell(&line.agent)];
        row.extend(counts(&line.compared));
        row.push(cell(line.trouble.as_deref().map_or_else(String::new, |trouble| short(trouble, LONGEST_VALUE))));
        row
    });
    let mut titles = vec!["AGENT"];
    titles.extend(TITLES);
    titles.push("TROUBLE");
    format!("{}\n{}", paint(BOLD, format!("Since {}", overview.since)), table(&titles, rows.collect()))
}

const TITLES: [&str; 6] = ["#AGREED", "#DIFFERED", "#ONLY OLD", "#ONLY NEW", "#NOT YET", "#MISMATCH"];

fn counts(compared: &Compared) -> Vec<Cell> {
    let apart = |n: i64| if n > 0 { alarming(n, Color::Yellow) } else { cell(n) };
    vec![
        cell(compared.agreed),
        apart(compared.differed),
        apart(compared.only_old),
        apart(compared.only_new),
        cell(compared.not_yet),
        cell(compared.mismatch().map_or_else(|| "–".to_owned(), |share| format!("{:.2} %", share * 100.0))),
    ]
}

fn page(report: &Report) -> String {
    let Line { agent, compared, trouble, .. } = &report.line;
    let title = match &report.mapping_since {
        Some(since) => format!("{agent} since {}, by its mapping of {since}", report.since),
        None => {
            return format!("{agent} is not compared: `switchyard compare {agent} --mapping FILE` says with what");
        }
    };
    let mut lines = vec![paint(BOLD, title), table(&TITLES, vec![counts(compared)])];
    if let Some(trouble) = trouble {
        lines.push(paint(RED, format!("it cannot be compared just now: {trouble}")));
    }
    if compared.unmatched > 0 {
        let unmatched = count(compared.unmatched, "row");
        lines.push(format!("only old: among these {unmatched} of the old system that answer no event"));
    }
    if compared.overtaken > 0 {
        let overtaken = count(compared.overtaken, "event");
        lines.push(format!("overtaken: {overtaken}, since the next event of the same key came before an answer"));
    }
    lines.extend(trend(&report.trend));
    lines.extend(examples(report));
    lines.join("\n")
}

fn trend(steps: &[Trend]) -> Vec<String> {
    if steps.len() < 2 {
        return Vec::new();
    }
    // A step holds only what was compared, so there is nothing to say about what was not yet.
    let titles: Vec<&str> =
        ["FROM"].into_iter().chain(TITLES.into_iter().filter(|title| *title != "#NOT YET")).collect();
    let rows = steps[steps.len().saturating_sub(STEPS)..].iter().map(|step| {
        let mut row = counts(&step.compared);
        row.remove(4);
        row.insert(0, cell(&step.from));
        row
    });
    vec![String::new(), table(&titles, rows.collect())]
}

fn examples(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for shown in &report.examples {
        let Shown { example, values, refused, by_now } = shown;
        let fields =
            if example.differs.is_empty() { String::new() } else { format!(": {}", example.differs.join(", ")) };
        let outcome = paint(YELLOW, example.outcome.replace('_', " "));
        lines.push(format!("{outcome} {} {}{fields}", example.event_id, paint(DIM, &example.at)));
        if let Some(refused) = refused {
            lines.push(format!("  the agent would refuse it: {}", short(refused, LONGEST_VALUE)));
        }
        for value in values.iter().flatten() {
            let text = |value: &Value| short(&value.to_string(), LONGEST_VALUE);
            lines.push(format!("  {}: {}, the old system {}", value.field, text(&value.ours), text(&value.theirs)));
        }
        if let Some(by_now) = by_now {
            let by_now = by_now.replace('_', " ");
            lines.push(format!(
                "  by now it comes out as {by_now}: the old system has changed its side since it was compared"
            ));
        }
    }
    for unmatched in &report.unmatched_rows {
        let key = short(&unmatched.key.join(", "), LONGEST_VALUE);
        lines.push(format!(
            "{} {} of {key} {} answers no event",
            paint(YELLOW, "only old"),
            unmatched.answer,
            paint(DIM, &unmatched.at)
        ));
    }
    if !lines.is_empty() {
        lines.insert(0, format!("\n{}", paint(BOLD, "Examples")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;
    use serde_json::json;
    use switchyard_operations::compare::{Example, UnmatchedRow, Values};

    fn parse(line: &str) -> Result<Compare, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace()).map(|parsed| {
            let Command::Compare(compare) = parsed.command else { panic!("{line}") };
            *compare
        })
    }

    fn asked(line: &str) -> Value {
        let request = request(&parse(line).unwrap(), "ada", "2026-01-05T12:00:00Z".parse().unwrap()).unwrap();
        serde_json::to_value(Request::Compare(Box::new(request))).unwrap()
    }

    #[test]
    fn a_comparison_is_asked_for_set_or_stopped() {
        assert_eq!(
            asked("switchyard compare --since 2h"),
            json!({ "action": "compare", "since": "2026-01-05T10:00:00Z" })
        );
        assert_eq!(
            asked("switchyard compare sentiment --by day --examples 5 --values"),
            json!({ "action": "compare", "agent": "sentiment", "by": "day", "examples": 5, "values": true, "operator": "ada" })
        );
        assert_eq!(
            asked("switchyard compare sentiment --stop"),
            json!({ "action": "compare", "agent": "sentiment", "mapping": null, "operator": "ada" })
        );
        for wrong in [
            "--values",
            "--mapping x.toml",
            "a --stop --mapping x.toml",
            "a --stop --since 2h",
            "a --by week",
            "a --examples 51",
        ] {
            assert!(parse(&format!("switchyard compare {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mapping_is_read_as_toml_or_json_and_what_is_neither_is_said_with_its_file() {
        let folder = std::env::temp_dir().join(format!("switchyard-compare-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, text).unwrap();
            mapping(&file).map_err(|failure| failure.to_string())
        };
        let expected = json!({ "wait": "1m", "answers": [{ "name": "row" }] });
        assert_eq!(write("a.toml", "wait = \"1m\"\n[[answers]]\nname = \"row\"\n"), Ok(expected.clone()));
        assert_eq!(write("a.json", &expected.to_string()), Ok(expected));
        let broken = write("b.toml", "wait = \"1m\"\nwait\n").unwrap_err();
        assert!(broken.contains("b.toml") && broken.contains("line 2"), "{broken}");
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(mapping(&folder.join("c.toml")).unwrap_err().to_string().contains("c.toml"));
    }

    fn report() -> Report {
        let compared = Compared {
            agreed: 98,
            differed: 1,
            only_old: 1,
            unmatched: 1,
            overtaken: 2,
            not_yet: 3,
            ..Compared::default()
        };
        let example = Example {
            event_id: uuid::Uuid::from_u128(7),
            outcome: "differed".into(),
            differs: vec!["analysis.score".into()],
            at: "2026-01-05T10:00:00Z".into(),
        };
        let value = Values { field: "analysis.score".into(), ours: json!(0.5), theirs: json!("a\nb") };
        Report {
            since: "2026-01-05T00:00:00Z".into(),
            line: Line { agent: "sentiment".into(), compared, mismatch: compared.mismatch(), trouble: None },
            mapping_since: Some("2026-01-04T00:00:00Z".into()),
            examples: vec![Shown {
                example,
                values: Some(vec![value]),
                refused: None,
                by_now: Some("only_new".into()),
            }],
            unmatched_rows: vec![UnmatchedRow {
                answer: "analysis".into(),
                key: vec!["post-1".into()],
                at: "2026-01-05T11:00:00Z".into(),
            }],
            ..Report::default()
        }
    }

    #[test]
    fn a_report_says_how_much_differs_and_shows_what() {
        let page = page(&report());
        for words in [
            "2.00 %",
            "1 row of the old system that answer no event",
            "overtaken: 2 events",
            "00000000-0000-0000-0000-000000000007",
            "analysis.score: 0.5, the old system \"a\\nb\"",
            "by now it comes out as only new",
            "analysis of post-1",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        let step = |from: &str| Trend { from: from.into(), compared: Compared { agreed: 1, ..Compared::default() } };
        let with_trend = trend(&[step("2026-01-05T10:00:00Z"), step("2026-01-05T11:00:00Z")]).join("\n");
        assert!(with_trend.contains("2026-01-05T11:00:00Z") && !with_trend.contains("NOT YET"), "{with_trend}");
    }

    #[test]
    fn where_nothing_is_compared_it_says_how_to_begin() {
        assert!(all(&Overview::default()).contains("--mapping FILE"));
        assert!(page(&Report { mapping_since: None, ..report() }).contains("--mapping FILE"));
        let line = Line { trouble: Some("public.old has no column \"x\"".into()), ..report().line };
        let troubled = all(&Overview { since: "2026-01-05T00:00:00Z".into(), agents: vec![line] });
        assert!(troubled.contains("no column") && troubled.contains("98"), "{troubled}");
    }
}
