//! How much there is, how quick and how faulty.
//!
//! Measured by a function that reads places of the log and samples, never all of it (`functions/figures.sql`): a tenth of a second at three million
//! events.

use std::time::Duration;

use serde::Deserialize;
use tokio_postgres::types::Type;

use crate::row::{get, only};
use crate::{Store, StoreError};

/// What was measured, of the last hours and of now.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Figures {
    /// When, by the database's clock: RFC 3339.
    pub at: String,
    /// How many seconds it looks back: what was asked for, or since events are logged where that is shorter.
    pub window_secs: f64,
    /// Events logged in that time.
    pub events: i64,
    /// Whether that is an estimate: so it is above 200,000, from the sequences drawn.
    pub events_estimated: bool,
    /// How many of the newest events were looked at for [`AgentFigures::heard`]: at most 10,000.
    pub events_sampled: i64,
    /// The most events in one second, found in the ten fullest spans between two passes of the steward (a minute each).
    pub peak_per_second: f64,
    /// Payload and metadata of an event as stored, in bytes: the average of the newest 200. 0 where there is none.
    pub event_bytes: f64,
    /// Events that wait to be published now; 100,000 stands for that many or more.
    pub unpublished: i64,
    /// For how many seconds the first of them has been waiting, beyond what it was to wait.
    pub oldest_unpublished_secs: f64,
    /// Connections to the database server, all of its databases together.
    pub connections: i64,
    /// How many it takes.
    pub max_connections: i64,
    /// Every agent that listens to something, by name.
    pub agents: Vec<AgentFigures>,
}

/// What was measured of an agent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct AgentFigures {
    /// Its name.
    pub agent: String,
    /// Its routing: `off`, `shadow`, `percent` or `full`.
    pub mode: String,
    /// How many of [`Figures::events_sampled`] are of a type that it listens to.
    pub heard: i64,
    /// How many of its newest live deliveries in that time were looked at: at most 1,000 of those that were tried, among the newest 10,000. 0 where
    /// so many of the newest only wait.
    pub sampled: i64,
    /// How many of those have failed at least once, whatever became of them.
    pub failed: i64,
    /// How many of those latency was measured of: settled as done, not to be delivered later, not sent again by a person.
    pub done: i64,
    /// From the log to the transaction that settled it, by whoever owned it, in milliseconds; `None` where nothing is done.
    pub avg_latency_ms: Option<f64>,
    /// What 95 of 100 stayed below.
    pub p95_latency_ms: Option<f64>,
    /// Live deliveries that are parked now; 100,000 stands for that many or more.
    pub parked: i64,
    /// Failed and parked attempts in that time; 100,000 stands for that many or more.
    pub failed_attempts: i64,
}

impl Store {
    /// What there was in the last `window`, or since events are logged. Reads only.
    ///
    /// Fails with [`StoreError::Unavailable`] when the database is, or does not answer within the store's limit.
    pub async fn figures(&self, window: Duration) -> Result<Figures, StoreError> {
        const OP: &str = "figures";
        let sql = "select switchyard.figures($1 * interval '1 second')::text";
        let rows = self.read(OP, sql, &[(&window.as_secs_f64(), Type::FLOAT8)]).await?;
        let answer: String = get(OP, &only(OP, rows)?, 0)?;
        serde_json::from_str(&answer).map_err(|_| {
            StoreError::bug(OP, "an answer of another shape: the schema is of another version than this program")
        })
    }
}
