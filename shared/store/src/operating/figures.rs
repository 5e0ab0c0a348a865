//! Figures of volume, latency and failures.
//!
//! The function behind it reads places and samples of the event log, never all of it (`functions/figures.sql`): a tenth of a second at three million
//! events.

use std::time::Duration;

use serde::Deserialize;
use tokio_postgres::types::Type;

use crate::row::{get, only};
use crate::{Store, StoreError};

/// Figures of the last hours and of now.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Figures {
    /// When, by the database's clock: RFC 3339.
    pub at: String,
    /// How many seconds it looks back: the window, or the time since logging started if that is shorter.
    pub window_secs: f64,
    /// Events logged in that time.
    pub events: i64,
    /// Whether `events` is an estimate from the sequences. Above 200,000 it is.
    pub events_estimated: bool,
    /// How many of the newest events were read for [`AgentFigures::heard`]: at most 10,000.
    pub events_sampled: i64,
    /// The most events in one second, found in the ten fullest spans between two passes of the steward (a minute each).
    pub peak_per_second: f64,
    /// The average stored size of payload and metadata, in bytes, of the newest 200 events. 0 without events.
    pub event_bytes: f64,
    /// Events that wait to be published now; 100,000 means that many or more.
    pub unpublished: i64,
    /// How many seconds the first of them has waited, beyond its delay.
    pub oldest_unpublished_secs: f64,
    /// Connections to the database server, all of its databases together.
    pub connections: i64,
    /// The most connections that the server takes.
    pub max_connections: i64,
    /// Every agent with a subscription, by name.
    pub agents: Vec<AgentFigures>,
}

/// The figures of one agent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct AgentFigures {
    /// Its name.
    pub agent: String,
    /// Its routing: `off`, `shadow`, `percent` or `full`.
    pub mode: String,
    /// How many of [`Figures::events_sampled`] are of a type that it subscribes to.
    pub heard: i64,
    /// How many live deliveries of that time were sampled: at most 1,000 that were tried, from its newest 10,000. 0 if those only wait.
    pub sampled: i64,
    /// How many of those failed at least once.
    pub failed: i64,
    /// How many of those the latency was measured of: done, not delayed, and not sent back by an operator.
    pub done: i64,
    /// From the log to the transaction that settled it, of either owner, in milliseconds; `None` if nothing is done.
    pub avg_latency_ms: Option<f64>,
    /// The 95th percentile.
    pub p95_latency_ms: Option<f64>,
    /// Live deliveries that are parked now; 100,000 means that many or more.
    pub parked: i64,
    /// Failed and parked attempts in that time; 100,000 means that many or more.
    pub failed_attempts: i64,
}

impl Store {
    /// Returns the figures of the last `window`, or since logging started. Only reads.
    ///
    /// Fails with [`StoreError::Unavailable`] if the database is unavailable, or does not answer within the store's limit.
    pub async fn figures(&self, window: Duration) -> Result<Figures, StoreError> {
        const OP: &str = "figures";
        let sql = "select switchyard.figures($1::float8 * interval '1 second')::text";
        let rows = self.read(OP, sql, &[(&window.as_secs_f64(), Type::FLOAT8)]).await?;
        let answer: String = get(OP, &only(OP, rows)?, 0)?;
        serde_json::from_str(&answer).map_err(|_| {
            StoreError::bug(OP, "an answer of another shape: the schema is of another version than this program")
        })
    }
}
