//! What the steward answers about comparisons.

use super::{
    advance,
    weigh::{Compares, weigh},
};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use switchyard_compare::{Difference, Mapping};
use switchyard_operations::compare::{
    Answered, CompareRequest, Example, Line, Overview, Period, Report, Shown, Values,
};
use switchyard_store::{CompareMapping, Store, StoreError};
use tokio::time::Instant;

/// How far back a report goes by default.
const WINDOW: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long what a new mapping makes comparable is compared at once; the passes go on with it.
const AT_ONCE: Duration = Duration::from_secs(10);

/// An example without any values.
fn bare(example: Example) -> Shown {
    Shown { example, values: None, refused: None, by_now: None }
}

fn values(Difference { field, ours, theirs }: Difference) -> Values {
    Values { field, ours, theirs }
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
            let dropped = limited.drop_compare_mapping(&operator, &agent).await;
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
    store.set_compare_mapping(operator, agent, given, read.wait.millis).await?;
    tracing::info!(agent, operator, "its mapping was set");
    if let Some(compare_mapping) = compare_mapping(store, agent).await? {
        advance::agent(store, &compare_mapping, ends.min(Instant::now() + AT_ONCE)).await;
    }
    plain(store, agent).await
}

async fn plain(store: &Store, agent: &str) -> Result<Answered, StoreError> {
    let wanted = Wanted { agent, since: since_or_lately(None), by: Period::Hour, of_each: 3, values: None };
    Ok(Answered::Report(Box::new(report(store, wanted).await?)))
}

async fn overview(store: &Store, since: String) -> Result<Overview, StoreError> {
    let mut agents = Vec::new();
    for CompareMapping { agent, trouble, .. } in store.compare_mappings().await? {
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
    let compare_mapping = compare_mapping(store, agent).await?;
    let found = store.compared_examples(agent, &since, of_each).await?;
    let mut trouble = compare_mapping.as_ref().and_then(|compare_mapping| compare_mapping.trouble.clone());
    let mut examples: Vec<Shown> = found.into_iter().map(bare).collect();
    if let (Some(compare_mapping), Some(operator)) = (&compare_mapping, values) {
        match with_values(store, compare_mapping, &mut examples, &operator).await {
            // Counts and ids can be shown all the same.
            Err(StoreError::Config { problem, .. }) => trouble = Some(problem),
            other => other?,
        }
    }
    Ok(Report {
        trend: store.compared_by(agent, &since, by).await?,
        unmatched_rows: store.unmatched_examples(agent, &since, of_each).await?,
        line: Line { agent: agent.to_owned(), mismatch: compared.mismatch(), compared, trouble },
        mapping_since: compare_mapping.as_ref().map(|compare_mapping| compare_mapping.since.clone()),
        mapping: compare_mapping.map(|compare_mapping| compare_mapping.mapping),
        examples,
        since,
    })
}

/// Adds both sides' values to the examples, read now. Who looks at payloads is written down.
async fn with_values(
    store: &Store,
    compare_mapping: &CompareMapping,
    examples: &mut [Shown],
    operator: &str,
) -> Result<(), StoreError> {
    let CompareMapping { agent, mapping, .. } = compare_mapping;
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
        shown.values = Some(finding.differences.into_iter().map(values).collect());
    }
    Ok(())
}

async fn compare_mapping(store: &Store, agent: &str) -> Result<Option<CompareMapping>, StoreError> {
    Ok(store.compare_mappings().await?.into_iter().find(|compare_mapping| compare_mapping.agent == agent))
}

fn since_or_lately(since: Option<String>) -> String {
    since.unwrap_or_else(|| (Timestamp::now() - WINDOW).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_operations::compare::{Compared, Trend, UnmatchedRow};

    #[test]
    fn a_report_reads_back_from_its_json_as_it_was() {
        let compared = Compared { agreed: 1, differed: 2, unmatched: 3, ..Compared::default() };
        let example = Example {
            event_id: uuid::Uuid::nil(),
            outcome: "differed".into(),
            differs: vec!["a.b".into()],
            at: "then".into(),
        };
        let value = Values { field: "a.b".into(), ours: 1.into(), theirs: serde_json::Value::Null };
        let report = Report {
            line: Line { agent: "painter".into(), mismatch: compared.mismatch(), compared, trouble: None },
            trend: vec![Trend { from: "then".into(), compared }],
            examples: vec![Shown { values: Some(vec![value]), by_now: Some("agreed".into()), ..bare(example) }],
            unmatched_rows: vec![UnmatchedRow { answer: "a".into(), key: vec!["k".into()], at: "then".into() }],
            ..Report::default()
        };
        let json = serde_json::to_string(&Answered::Report(Box::new(report.clone()))).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["unmatched"], 3);
    }
}
