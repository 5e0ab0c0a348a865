//! The figures of a team's own page (`/api/admin/metrics`). What each field is stands in `docs/when-to-move.md`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use switchyard_advice::Way;

/// To `metrics`. Keys are promises; a new one may come, none goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// When it was measured: RFC 3339.
    pub at: String,
    /// Over how many seconds: a day, or since events are logged where that is shorter.
    pub window_secs: f64,
    /// Events in that time, for a day of it.
    pub events_per_day: f64,
    /// Whether that is an estimate, as it is above 200,000.
    pub events_estimated: bool,
    /// The most events in one second.
    pub events_per_second_peak: f64,
    /// Payload and metadata of an event as stored, in bytes.
    pub avg_event_bytes: f64,
    /// How many agents listen to something.
    pub agents_active: u32,
    /// How many agents an event goes to, on average.
    pub deliveries_per_event: f64,
    /// From the log to the transaction that settled a delivery, in milliseconds; none where nothing was settled.
    pub avg_latency_ms: Option<f64>,
    /// What 95 of 100 deliveries of the slowest agent stayed below.
    pub p95_latency_ms: Option<f64>,
    /// The share of deliveries that failed at least once, from 0 to 1; none where nothing was delivered.
    pub error_rate: Option<f64>,
    /// Deliveries that are parked now.
    pub parked: i64,
    /// Events that wait to be published now.
    pub unpublished: i64,
    /// For how many seconds the first of them has been waiting.
    pub oldest_unpublished_secs: f64,
    /// Connections to the database server now, all of its databases together.
    pub connections: i64,
    /// How many it takes.
    pub max_connections: i64,
    /// `stay`, `redis_streams` or `sns_sqs`.
    pub recommendation: Way,
    /// Why, in one line that names the threshold.
    pub recommendation_reason: String,
    /// What each way costs a month, in US dollars, by list prices.
    pub cost_usd_per_month: BTreeMap<Way, f64>,
    /// Of which day the prices are.
    pub prices_as_of: String,
    /// Whether all of them were read on the provider's page that day.
    pub prices_verified: bool,
    /// The same for each agent, by name.
    pub agents: Vec<AgentMetrics>,
}

/// What was measured of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentMetrics {
    /// Its name.
    pub agent: String,
    /// Its routing: `off`, `shadow`, `percent` or `full`.
    pub mode: String,
    /// Events a day that it hears of, by its share of the newest ones.
    pub events_per_day: f64,
    /// As [`Metrics::avg_latency_ms`], of its newest thousand deliveries.
    pub avg_latency_ms: Option<f64>,
    /// What 95 of 100 of those stayed below.
    pub p95_latency_ms: Option<f64>,
    /// As [`Metrics::error_rate`], of its newest thousand deliveries.
    pub error_rate: Option<f64>,
    /// Failed and parked attempts in the time that was measured.
    pub failed_attempts: i64,
    /// Its deliveries that are parked now.
    pub parked: i64,
}
