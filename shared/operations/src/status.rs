//! The state of the stack.

use crate::{breaker::Breaker, cutover::Cutover};
use serde::{Deserialize, Serialize};

/// To `status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Every agent that is deployed or registered, by name, and ingest.
    pub agents: Vec<Standing>,
    /// How many events could not be published; no agent receives them. The request `outbox` lists them. `None` if the database did not answer.
    #[serde(default)]
    pub unpublishable: Option<i64>,
    /// The cutover plans that are running or paused, by agent.
    #[serde(default)]
    pub cutovers: Vec<Cutover>,
    /// The agents that have a backfill running.
    #[serde(default)]
    pub backfills: Vec<String>,
    /// What is wrong beyond a single agent, or could not be asked.
    pub troubles: Vec<String>,
}

/// The state of an agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Its name.
    pub agent: String,
    /// Its live deliveries; none for ingest, which has no ledger.
    pub deliveries: Option<Deliveries>,
    /// Its breaker; none for ingest.
    pub breaker: Option<Breaker>,
    /// Whether messages flow from its queue to its function.
    pub flows: Option<bool>,
    /// Who has paused a mapping, if messages do not flow.
    pub paused_by: Option<PausedBy>,
    /// What its queue holds.
    pub queue: Option<Queue>,
    /// How many messages its dead-letter queue holds, with those that a reader has received.
    pub dead_letters: Option<u64>,
    /// How many messages wait that SNS could not deliver to its queue.
    pub undelivered: Option<u64>,
    /// What is wrong with it, or could not be asked.
    pub troubles: Vec<String>,
}

/// Live deliveries of an agent in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliveries {
    /// Done, superseded or expired.
    pub settled: i64,
    /// Under way, or to be tried again.
    pub pending: i64,
    /// Parked: an operator must act.
    pub parked: i64,
    /// Owned by the old system.
    pub old: i64,
}

/// Who has turned a mapping off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PausedBy {
    /// The steward, since the breaker is open.
    Steward,
    /// An operator. The steward leaves it off.
    Operator,
}

/// What a queue holds, as SQS counts it: approximately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Messages that wait.
    pub waiting: u64,
    /// Messages that were received and not yet acknowledged, or are held back.
    pub in_flight: u64,
    /// Messages that were sent with a delay.
    pub delayed: u64,
}

impl Queue {
    /// All that is in it.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.waiting + self.in_flight + self.delayed
    }
}
