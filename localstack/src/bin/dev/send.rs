//! `cargo dev send`: feedback in, and row by row what became of it.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use switchyard_localstack::{Error, Places};
use switchyard_store::{State, Store, StreamEvent};
use uuid::Uuid;

use crate::arguments::Send;
use crate::feedback::{self, Feedback, Format, Row, SAMPLE_PROJECT};
use crate::style::{DIM, GREEN, RED, YELLOW, count, paint, print_line};
use crate::tree::{self, Standing};
use crate::{Outcome, runtime, schema, signals, state};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Events read in one query.
const PAGE: i64 = 1000;

pub(crate) fn run(places: &Places, options: &Send) -> Outcome {
    // First, so that a file with a mistake is told whether or not anything runs.
    let rows = read(options)?;
    let url = state::ready(places)?.database_url().unwrap_or_default();
    // Ctrl-C ends the waiting; what is inserted is inserted.
    signals::catch(|| std::process::exit(i32::from(signals::INTERRUPTED)))?;
    let reports = runtime()?.block_on(send(&url, rows, Duration::from_secs(options.wait)))?;
    for report in &reports {
        if options.json {
            print_line(serde_json::to_string(report).unwrap_or_default());
        } else {
            print(report);
        }
    }
    if !options.json && reports.len() > 1 {
        summarise(&reports);
    }
    let is_fine = reports.iter().all(|report| report.outcome == Became::Done);
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(options: &Send) -> Result<Vec<Row>, Error> {
    let project = match &options.project {
        Some(text) => Uuid::parse_str(text).map_err(|_| Error::Option {
            option: "--project",
            value: text.clone(),
            wrong: "is no UUID",
        })?,
        None => SAMPLE_PROJECT,
    };
    let is_stdin = options.file.as_deref().is_some_and(|file| file == Path::new("-")) || options.text == ["-"];
    let (input, format, content) = match &options.file {
        _ if is_stdin => {
            let mut content = Vec::new();
            let input = "standard input";
            std::io::stdin().read_to_end(&mut content).map_err(Error::file("read", Path::new(input)))?;
            (input.to_owned(), Format::of(None, &content), content)
        }
        Some(file) => {
            let content = std::fs::read(file).map_err(Error::file("read", file))?;
            (file.display().to_string(), Format::of(Some(file), &content), content)
        }
        None => return Ok(feedback::texts(&options.text, project)),
    };
    let wrong = |reason: String| Error::Input { input: input.clone(), reason };
    let rows = feedback::parse(format, &content, project).map_err(wrong)?;
    if rows.is_empty() {
        return Err(wrong("it is empty".to_owned()));
    }
    Ok(rows)
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Became {
    /// Every agent has handled it.
    Done,
    /// At least one agent has given it up.
    Parked,
    /// At least one agent has not finished in time; it goes on without us.
    Waiting,
    /// It was not sent.
    Refused,
}

/// A row and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Report {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    outcome: Became,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    agents: Vec<Agent>,
    effects: Vec<String>,
}

/// An agent's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Agent {
    name: String,
    outcome: Became,
    attempts: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

async fn send(url: &str, rows: Vec<Row>, patience: Duration) -> Result<Vec<Report>, Error> {
    let store = schema::store(url)?;
    let mut after = store.newest().await?;
    let client = schema::connect(url).await?;
    let mut sent = Vec::new();
    for row in rows {
        sent.push((row.line, insert(&client, row.content).await?));
    }
    let mut waiting: HashMap<String, Option<StreamEvent>> = HashMap::new();
    for (_, row) in &sent {
        if let Ok(feedback) = row {
            waiting.insert(feedback.id.to_string(), None);
        }
    }
    let deadline = Instant::now() + patience;
    let bar = bar(waiting.len());
    while !look(&store, &mut after, &mut waiting).await? && Instant::now() < deadline {
        bar.set_position(waiting.values().filter(|event| is_settled(event)).count() as u64);
        tokio::time::sleep(PAUSE).await;
    }
    bar.finish_and_clear();
    Ok(sent.into_iter().map(|(line, row)| report(line, row, &waiting)).collect())
}

/// A row that the database refuses is a bad row; a database that is not there is an error.
async fn insert(
    client: &tokio_postgres::Client,
    content: Result<Feedback, String>,
) -> Result<Result<Feedback, String>, Error> {
    let feedback = match content {
        Ok(feedback) => feedback,
        Err(reason) => return Ok(Err(reason)),
    };
    match schema::insert(client, &feedback).await {
        Ok(()) => Ok(Ok(feedback)),
        Err(error) => match error.as_db_error() {
            Some(refusal) => Ok(Err(format!("the database refused it: {}", refusal.message()))),
            None => Err(schema::refused("take the feedback")(error)),
        },
    }
}

/// Reads the stream on; true when every row has settled. `after` moves on over what is settled.
async fn look(
    store: &Store,
    after: &mut i64,
    waiting: &mut HashMap<String, Option<StreamEvent>>,
) -> Result<bool, Error> {
    let mut from = *after;
    let mut is_settled_so_far = true;
    loop {
        let events = store.stream(from, PAGE).await?;
        let Some(last) = events.last().map(|event| event.seq) else { break };
        let is_last_page = i64::try_from(events.len()).is_ok_and(|n| n < PAGE);
        for event in events {
            let is_ours = event.event_type == "feedback.created" && waiting.contains_key(&event.aggregate_id);
            if is_ours {
                is_settled_so_far &= tree::standing(&event) == Standing::Settled;
                waiting.insert(event.aggregate_id.clone(), Some(event));
            }
        }
        from = last;
        // Only whole pages: in the last one, a transaction may still put an event before the newest.
        if is_settled_so_far && !is_last_page {
            *after = last;
        }
        if is_last_page {
            break;
        }
    }
    let is_settled =
        |event: &Option<StreamEvent>| event.as_ref().is_some_and(|e| tree::standing(e) == Standing::Settled);
    Ok(waiting.values().all(is_settled))
}

fn is_settled(event: &Option<StreamEvent>) -> bool {
    event.as_ref().is_some_and(|event| tree::standing(event) == Standing::Settled)
}

/// Shown only in a terminal, and only while there is something to wait for.
fn bar(rows: usize) -> ProgressBar {
    let bar = ProgressBar::new(rows as u64);
    let style = ProgressStyle::with_template("{spinner} {bar:30.green/dim} {pos}/{len} handled by every agent");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn report(line: u64, row: Result<Feedback, String>, seen: &HashMap<String, Option<StreamEvent>>) -> Report {
    let feedback = match row {
        Ok(feedback) => feedback,
        Err(reason) => {
            let (agents, effects) = (Vec::new(), Vec::new());
            return Report {
                line,
                post_id: None,
                title: None,
                outcome: Became::Refused,
                reason: Some(reason),
                agents,
                effects,
            };
        }
    };
    let event = seen.get(&feedback.id.to_string()).and_then(Option::as_ref);
    let agents: Vec<Agent> = event.iter().flat_map(|event| &event.deliveries).map(agent).collect();
    let has = |outcome: Became| agents.iter().any(|agent| agent.outcome == outcome);
    let outcome = match event {
        _ if has(Became::Parked) => Became::Parked,
        Some(event) if event.published && !has(Became::Waiting) => Became::Done,
        _ => Became::Waiting,
    };
    let reason = match event {
        None => Some("its event has not been seen".to_owned()),
        Some(event) if !event.published => Some("its event is not published yet".to_owned()),
        Some(_) => None,
    };
    let effects = event.iter().flat_map(|event| &event.children).map(|child| child.event_type.clone()).collect();
    Report { line, post_id: Some(feedback.id), title: Some(feedback.title), outcome, reason, agents, effects }
}

fn agent(delivery: &switchyard_store::StreamDelivery) -> Agent {
    let outcome = match delivery.state {
        Some(State::Parked) => Became::Parked,
        Some(state) if tree::is_final(state) => Became::Done,
        _ => Became::Waiting,
    };
    Agent { name: delivery.agent.clone(), outcome, attempts: delivery.attempts, reason: delivery.reason.clone() }
}

fn print(report: &Report) {
    let (style, mark) = match report.outcome {
        Became::Done => (GREEN, "✓"),
        Became::Waiting => (YELLOW, "…"),
        Became::Parked | Became::Refused => (RED, "✗"),
    };
    let place = paint(DIM, format!("{:>4}", report.line));
    let mut parts = vec![report.title.clone().unwrap_or_else(|| "not sent".to_owned())];
    parts.extend(report.agents.iter().map(|agent| {
        let word = match agent.outcome {
            Became::Done => "done",
            Became::Parked => "parked",
            Became::Waiting | Became::Refused => "waiting",
        };
        let why = agent.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{} {word}{why}", agent.name)
    }));
    parts.extend(report.reason.clone());
    let effects = if report.effects.is_empty() { String::new() } else { format!(" → {}", report.effects.join(", ")) };
    print_line(format!("{place} {} {}{}", paint(style, mark), parts.join(&paint(DIM, " · ")), paint(DIM, effects)));
}

fn summarise(reports: &[Report]) {
    let number = |outcome: Became| reports.iter().filter(|report| report.outcome == outcome).count();
    let words = [
        (Became::Done, "done"),
        (Became::Waiting, "waiting"),
        (Became::Parked, "parked"),
        (Became::Refused, "refused"),
    ];
    let outcomes = words.iter().map(|(outcome, word)| (number(*outcome), word)).filter(|(n, _)| *n > 0);
    let outcomes: Vec<String> = outcomes.map(|(n, word)| format!("{n} {word}")).collect();
    print_line(format!("{}: {}", count(reports.len() as u64, "row"), outcomes.join(", ")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{delivery, event};

    fn feedback() -> Feedback {
        feedback::texts(&["Export fails".to_owned()], SAMPLE_PROJECT).remove(0).content.unwrap()
    }

    fn reported(deliveries: Vec<switchyard_store::StreamDelivery>) -> Became {
        let feedback = feedback();
        let seen = HashMap::from([(feedback.id.to_string(), Some(event(deliveries)))]);
        report(1, Ok(feedback), &seen).outcome
    }

    #[test]
    fn a_row_is_done_when_all_its_agents_are() {
        assert_eq!(
            reported(vec![delivery("a", Some(State::Done)), delivery("b", Some(State::Superseded))]),
            Became::Done
        );
        assert_eq!(reported(vec![delivery("a", Some(State::Done)), delivery("b", None)]), Became::Waiting);
        assert_eq!(reported(vec![delivery("a", Some(State::Parked)), delivery("b", None)]), Became::Parked);
    }

    #[test]
    fn a_row_whose_event_was_not_seen_waits() {
        let feedback = feedback();
        let seen = HashMap::from([(feedback.id.to_string(), None)]);
        assert_eq!(report(1, Ok(feedback), &seen).outcome, Became::Waiting);
    }

    #[test]
    fn a_bad_row_keeps_its_line_and_its_reason() {
        let report = report(7, Err("no title".to_owned()), &HashMap::new());
        assert_eq!((report.line, report.outcome, report.reason.as_deref()), (7, Became::Refused, Some("no title")));
    }

    #[test]
    fn input_that_cannot_be_read_is_named() {
        let options = Send { file: Some("/nowhere/feedback.csv".into()), ..Send::default() };
        assert!(read(&options).unwrap_err().to_string().contains("/nowhere/feedback.csv"));
    }
}
