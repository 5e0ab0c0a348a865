//! Shadow comparison: differences put in by a program that knows nothing of the comparator, both sides against a real Postgres, and the
//! deployed agent beside an old system.

mod seeded;
mod sentiment;
mod sides;

use serde_json::Value;
use std::time::Duration;
use steward::compare::{advance, answer};
use switchyard_operations::compare::{Advanced, Answered, CompareRequest, Report};
use switchyard_store::{Period, Store};
use tokio::time::Instant;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn toml(text: &str) -> Value {
    toml::from_str(text).unwrap()
}

async fn set(store: &Store, agent: &str, mapping: &Value) -> Result<Report, String> {
    let (agent, mapping) = (agent.to_owned(), mapping.clone());
    report_of(answer(store, CompareRequest::Set { agent, mapping, operator: "ada".into() }, soon()).await)
}

/// What the steward reports, with so many examples of each outcome, with their values.
async fn report(store: &Store, agent: &str, examples: i64) -> Report {
    let (agent, values) = (agent.to_owned(), Some("ada".to_owned()));
    let request = CompareRequest::Report { agent, since: None, by: Period::Hour, examples, values };
    report_of(answer(store, request, soon()).await).unwrap()
}

fn report_of(answered: Result<Answered, String>) -> Result<Report, String> {
    answered.map(|answered| match answered {
        Answered::Report(report) => *report,
        Answered::Overview(overview) => panic!("an overview: {overview:?}"),
    })
}

/// One step of a pass, for the one agent that is compared.
async fn step(store: &Store) -> Advanced {
    let mut advanced = advance(store, soon()).await.unwrap();
    assert_eq!(advanced.len(), 1, "{advanced:?}");
    advanced.remove(0)
}

#[test]
fn the_page_s_mapping_can_be_read() {
    let page = include_str!("../../docs/shadow.md");
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    assert_eq!(switchyard_compare::Mapping::read(&toml(block)).unwrap().answers.len(), 1);
}

#[test]
fn each_agent_s_mapping_in_the_tree_can_be_read() {
    let agents = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../functions/agents"));
    let files = std::fs::read_dir(agents).unwrap().map(|agent| agent.unwrap().path().join("compare.toml"));
    let found: Vec<_> = files.filter(|file| file.exists()).collect();
    assert!(found.len() >= 2, "{found:?}");
    for file in found {
        let read = switchyard_compare::Mapping::read(&toml(&std::fs::read_to_string(&file).unwrap()));
        assert!(read.is_ok(), "{}: {}", file.display(), read.unwrap_err());
    }
}
