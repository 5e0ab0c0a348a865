//! The stream of events for a live view.

use serde::Deserialize;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::ledger::report::State;
use crate::row::{get, known, only};
use crate::{Store, StoreError};

/// An event, its deliveries, and the events that it caused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// Its place in the event log.
    pub seq: i64,
    /// The event.
    pub id: Uuid,
    /// Such as `feedback.created`.
    pub event_type: String,
    /// Such as `post`.
    pub aggregate_type: String,
    /// Its id.
    pub aggregate_id: String,
    /// Its project.
    pub project_id: Option<String>,
    /// When it was inserted: RFC 3339; `None` if the application has deleted the event.
    pub created_at: Option<String>,
    /// The event that caused it.
    pub causation_id: Option<String>,
    /// The chain that it belongs to.
    pub correlation_id: Option<String>,
    /// Whether the topic has it.
    pub published: bool,
    /// One for each agent that subscribes to its type, and for each run of it.
    pub deliveries: Vec<StreamDelivery>,
    /// The events that it caused.
    pub children: Vec<Child>,
}

/// The delivery of an event to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamDelivery {
    /// The agent.
    pub agent: String,
    /// 0, or a backfill or a replay.
    pub run: i32,
    /// Whether the old system owns it.
    pub owned_by_old: bool,
    /// `None` if no row exists yet.
    pub state: Option<State>,
    /// How many attempts have failed.
    pub attempts: u16,
    /// The reason for its state, if there is one.
    pub reason: Option<String>,
    /// The last change: RFC 3339.
    pub at: Option<String>,
}

/// An event caused by another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Child {
    /// Its place in the event log.
    pub seq: i64,
    /// The event.
    pub id: Uuid,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
}

/// A delivery as the database's JSON has it.
#[derive(Deserialize)]
struct Line {
    agent: String,
    run: i32,
    owner: String,
    state: Option<String>,
    attempts: u16,
    reason: Option<String>,
    at: Option<String>,
}

impl Store {
    /// Returns the last sequence that was drawn; 0 before the first. A stream of new events starts there.
    pub async fn newest(&self) -> Result<i64, StoreError> {
        let rows = self.read("newest", "select switchyard.last_seq()", &[]).await?;
        get("newest", &only("newest", rows)?, 0)
    }

    /// Returns the events above `after_seq`, oldest first. It looks for children among the two thousand sequences after each.
    pub async fn stream(&self, after_seq: i64, limit: i64) -> Result<Vec<StreamEvent>, StoreError> {
        const OP: &str = "stream";
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let rows = self
            .read(
                OP,
                "select seq, id, type, aggregate_type, aggregate_id, project_id, created_at, causation_id, correlation_id, published,
                        deliveries::text, children::text
                   from switchyard.stream($1, $2) order by seq",
                &[(&after_seq, Type::INT8), (&limit, Type::INT4)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let lines: Vec<Line> = json(OP, get(OP, row, 10)?)?;
                Ok(StreamEvent {
                    seq: get(OP, row, 0)?,
                    id: get(OP, row, 1)?,
                    event_type: get(OP, row, 2)?,
                    aggregate_type: get(OP, row, 3)?,
                    aggregate_id: get(OP, row, 4)?,
                    project_id: get(OP, row, 5)?,
                    created_at: get(OP, row, 6)?,
                    causation_id: get(OP, row, 7)?,
                    correlation_id: get(OP, row, 8)?,
                    published: get(OP, row, 9)?,
                    deliveries: lines.into_iter().map(delivery).collect::<Result<_, _>>()?,
                    children: json(OP, get(OP, row, 11)?)?,
                })
            })
            .collect()
    }
}

fn delivery(line: Line) -> Result<StreamDelivery, StoreError> {
    Ok(StreamDelivery {
        agent: line.agent,
        run: line.run,
        owned_by_old: line.owner == "o",
        state: line.state.map(|letter| known("stream", State::named(&letter))).transpose()?,
        attempts: line.attempts,
        reason: line.reason,
        at: line.at,
    })
}

fn json<'t, T: Deserialize<'t>>(operation: &'static str, text: &'t str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::bug(operation, e.to_string()))
}
