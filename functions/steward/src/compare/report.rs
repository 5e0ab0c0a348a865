//! What the steward answers about comparisons. Keys are promises to scripts, as in [`crate::answer`].

use super::{
    CompareRequest, advance,
    weigh::{Compares, weigh},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use switchyard_compare::{Difference, Mapping};
use switchyard_store::{Compared, Counterpart, Example, Period, Store, StoreError, StrayRow, Trend};
use tokio::time::Instant;

/// How far back a report goes, where nobody says.
const WINDOW: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long what a new mapping makes comparable is compared at once; the passes go on with it.
const AT_ONCE: Duration = Duration::from_secs(10);

/// To `compare`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answered {
    /// To one with an agent.
    Report(Box<Report>),
    /// To one without.
    Overview(Overview),
}

/// How all agents compare that are compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// Since when: RFC 3339.
    pub since: String,
    /// Each, by name.
    pub agents: Vec<Line>,
}

/// How an agent compares, in a line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The agent.
    pub agent: String,
    /// In events.
    #[serde(flatten)]
    pub compared: Compared,
    /// Which share of what says something does not agree, 0 to 1.
    pub mismatch: Option<f64>,
    /// Why it cannot be compared just now.
    pub trouble: Option<String>,
}

/// How an agent compares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Since when: RFC 3339.
    pub since: String,
    /// In numbers.
    #[serde(flatten)]
    pub line: Line,
    /// Since when its mapping stands; none where it has none, and is not compared.
    pub mapping_since: Option<String>,
    /// The mapping.
    pub mapping: Option<serde_json::Value>,
    /// The same step by step.
    pub trend: Vec<Trend>,
    /// Events that did not agree, the latest of each outcome.
    pub examples: Vec<Shown>,
    /// Rows of the old system that answer no event, the latest.
    pub stray_rows: Vec<StrayRow>,
}

/// An event that did not agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// Which, and how.
    #[serde(flatten)]
    pub example: Example,
    /// Both sides' values of what does not agree, as they stand now; only where somebody asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Value>>,
    /// Why the agent refused, where it did; with the values only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// With the values, where they were read anew and came out otherwise than when they were counted (the old system has changed its row): how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_now: Option<String>,
}

impl Shown {
    /// An example without any values.
    fn bare(example: Example) -> Self {
        Self { example, values: None, refused: None, by_now: None }
    }
}

/// Both sides' values of a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// `ANSWER.FIELD`.
    pub field: String,
    /// The agent's.
    pub ours: serde_json::Value,
    /// The old system's.
    pub theirs: serde_json::Value,
}

impl From<Difference> for Value {
    fn from(Difference { field, ours, theirs }: Difference) -> Self {
        Self { field, ours, theirs }
    }
}

/// Answers a request about comparisons.
///
/// # Errors
/// One line: what is wrong with a mapping, with its key, or what the database said.
pub async fn answer(store: &Store, request: CompareRequest, ends: Instant) -> Result<Answered, String> {
    let limited = store.within(ends.saturating_duration_since(Instant::now()));
    let answered = match request {
        CompareRequest::Overview { since } => overview(&limited, since_or_lately(since)).await.map(Answered::Overview),
        CompareRequest::Report { agent, since, by, examples, values } => {
            let wanted = Wanted { agent: &agent, since: since_or_lately(since), by, of_each: examples, values };
            report(&limited, wanted).await.map(|report| Answered::Report(Box::new(report)))
        }
        CompareRequest::Set { agent, mapping, operator } => {
            let read = Mapping::read(&mapping).map_err(|wrong| wrong.to_string())?;
            set(&limited, &agent, &read, &mapping, &operator, ends).await
        }
        CompareRequest::Drop { agent, operator } => {
            let dropped = limited.drop_counterpart(&operator, &agent).await;
            if dropped.as_ref().is_ok_and(|dropped| !dropped) {
                return Err(format!("{agent} has no mapping, and is not compared"));
            }
            tracing::info!(agent, operator, "it is compared no longer");
            plain(&limited, &agent).await
        }
    };
    answered.map_err(|error| error.to_string())
}

async fn set(
    store: &Store,
    agent: &str,
    read: &Mapping,
    given: &serde_json::Value,
    operator: &str,
    ends: Instant,
) -> Result<Answered, StoreError> {
    // Before anything is changed: what cannot be read is not taken.
    store.old_tables(read).await?;
    store.set_counterpart(operator, agent, given, read.wait.millis).await?;
    tracing::info!(agent, operator, "its mapping was set");
    if let Some(counterpart) = counterpart(store, agent).await? {
        advance::agent(store, &counterpart, ends.min(Instant::now() + AT_ONCE)).await;
    }
    plain(store, agent).await
}

async fn plain(store: &Store, agent: &str) -> Result<Answered, StoreError> {
    let wanted = Wanted { agent, since: since_or_lately(None), by: Period::Hour, of_each: 3, values: None };
    Ok(Answered::Report(Box::new(report(store, wanted).await?)))
}

async fn overview(store: &Store, since: String) -> Result<Overview, StoreError> {
    let mut agents = Vec::new();
    for Counterpart { agent, trouble, .. } in store.counterparts().await? {
        let compared = store.compared(&agent, &since).await?;
        agents.push(Line { mismatch: compared.mismatch(), agent, compared, trouble });
    }
    Ok(Overview { since, agents })
}

struct Wanted<'a> {
    agent: &'a str,
    since: String,
    by: Period,
    of_each: i64,
    values: Option<String>,
}

async fn report(store: &Store, wanted: Wanted<'_>) -> Result<Report, StoreError> {
    let Wanted { agent, since, by, of_each, values } = wanted;
    let compared = store.compared(agent, &since).await?;
    let counterpart = counterpart(store, agent).await?;
    let found = store.compared_examples(agent, &since, of_each).await?;
    let mut trouble = counterpart.as_ref().and_then(|counterpart| counterpart.trouble.clone());
    let mut examples: Vec<Shown> = found.into_iter().map(Shown::bare).collect();
    if let (Some(counterpart), Some(operator)) = (&counterpart, values) {
        match with_values(store, counterpart, &mut examples, &operator).await {
            // Counts and ids can be shown all the same.
            Err(StoreError::Config { problem, .. }) => trouble = Some(problem),
            other => other?,
        }
    }
    Ok(Report {
        trend: store.compared_by(agent, &since, by).await?,
        stray_rows: store.stray_examples(agent, &since, of_each).await?,
        line: Line { agent: agent.to_owned(), mismatch: compared.mismatch(), compared, trouble },
        mapping_since: counterpart.as_ref().map(|counterpart| counterpart.since.clone()),
        mapping: counterpart.map(|counterpart| counterpart.mapping),
        examples,
        since,
    })
}

/// Adds both sides' values to the examples, read now. Who looks at payloads is written down.
async fn with_values(
    store: &Store,
    counterpart: &Counterpart,
    examples: &mut [Shown],
    operator: &str,
) -> Result<(), StoreError> {
    let Counterpart { agent, mapping, .. } = counterpart;
    let Ok(mapping) = Mapping::read(mapping) else { return Ok(()) };
    let tables = store.old_tables(&mapping).await?;
    let detail = serde_json::json!({ "values_shown": examples.len() }).to_string();
    store.note(operator, "compare", Some(agent), &detail).await?;
    let compares = Compares { agent, mapping: &mapping, tables: &tables };
    // One by one, since they may lie far apart and the log between them is long.
    for shown in examples {
        let decided = store.decisions(agent, &mapping, &[shown.example.event_id]).await?;
        let Some((decided, finding)) = weigh(store, compares, decided).await?.into_iter().next() else { continue };
        let by_now = finding.outcome.name();
        shown.by_now = (by_now != shown.example.outcome).then(|| by_now.to_owned());
        shown.refused = decided.decision["refused"].as_str().map(ToOwned::to_owned);
        shown.values = Some(finding.differences.into_iter().map(Value::from).collect());
    }
    Ok(())
}

async fn counterpart(store: &Store, agent: &str) -> Result<Option<Counterpart>, StoreError> {
    Ok(store.counterparts().await?.into_iter().find(|counterpart| counterpart.agent == agent))
}

fn since_or_lately(since: Option<String>) -> String {
    since.unwrap_or_else(|| (Timestamp::now() - WINDOW).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_from_its_json_as_it_was() {
        let compared = Compared { agreed: 1, differed: 2, strays: 3, ..Compared::default() };
        let example = Example {
            event_id: uuid::Uuid::nil(),
            outcome: "differed".into(),
            differs: vec!["a.b".into()],
            at: "then".into(),
        };
        let value = Value { field: "a.b".into(), ours: 1.into(), theirs: serde_json::Value::Null };
        let report = Report {
            line: Line { agent: "painter".into(), mismatch: compared.mismatch(), compared, trouble: None },
            trend: vec![Trend { from: "then".into(), compared }],
            examples: vec![Shown { values: Some(vec![value]), by_now: Some("agreed".into()), ..Shown::bare(example) }],
            stray_rows: vec![StrayRow { answer: "a".into(), key: vec!["k".into()], at: "then".into() }],
            ..Report::default()
        };
        let json = serde_json::to_string(&Answered::Report(Box::new(report.clone()))).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["strays"], 3);
    }
}
