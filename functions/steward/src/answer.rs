//! What the steward answers, as JSON. Keys are promises to scripts; a new one may come, none goes. No answer holds a payload.

use crate::{backfill::Backfilled, compare::Advanced, cutover::Judged};
use serde::{Deserialize, Serialize};
use switchyard_bus::Depth;
use switchyard_store::{BreakerState, Cutover, Ledger, SetAside};

/// To `status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Every agent that is deployed or registered, by name, and ingest.
    pub agents: Vec<Standing>,
    /// How many events are set aside in the outbox, and reach nobody until somebody looks ([`Outbox`]). None where the database could not be asked.
    #[serde(default)]
    pub set_aside: Option<i64>,
    /// The cutover plans that are running or held, by agent.
    #[serde(default)]
    pub cutovers: Vec<Cutover>,
    /// The agents that have a backfill running.
    #[serde(default)]
    pub backfills: Vec<String>,
    /// What is wrong beyond a single agent, or could not be asked.
    pub troubles: Vec<String>,
}

/// To `outbox`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// What is set aside, the oldest first, at most 1,000.
    pub set_aside: Vec<SetAside>,
}

/// To `carry_again`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// How many events the shim tries again.
    pub carried: u64,
}

/// How an agent stands.
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
    /// Who has stopped them, where they do not.
    pub paused_by: Option<PausedBy>,
    /// What its queue holds.
    pub queue: Option<Queue>,
    /// How many letters lie in its dead-letter queue, those among them that somebody looks at just now.
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
    /// Set aside for a person to look at.
    pub parked: i64,
    /// The old system's turn.
    pub old: i64,
}

/// A breaker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Breaker {
    /// `closed`, `open` or `half_open`.
    pub state: String,
    /// Set by hand.
    pub forced: bool,
    /// Why it is not closed.
    pub reason: Option<String>,
    /// Since when it is so: RFC 3339.
    pub since: String,
    /// How often it has opened since it was last closed.
    pub opens: u16,
    /// In how many seconds an open one is probed.
    pub retry_in_secs: f64,
}

/// A breaker's state as people write it.
fn spoken(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half_open",
    }
}

impl From<&switchyard_store::Breaker> for Breaker {
    fn from(breaker: &switchyard_store::Breaker) -> Self {
        Self {
            state: spoken(breaker.state).to_owned(),
            forced: breaker.forced,
            reason: breaker.reason.clone(),
            since: breaker.since.clone(),
            opens: breaker.opens,
            retry_in_secs: breaker.retry_in_secs,
        }
    }
}

impl From<&Ledger> for Deliveries {
    fn from(ledger: &Ledger) -> Self {
        Self {
            settled: ledger.done + ledger.superseded + ledger.expired,
            pending: ledger.pending + ledger.assigned + ledger.failing,
            parked: ledger.parked - ledger.parked_old,
            old: ledger.assigned_old + ledger.parked_old,
        }
    }
}

/// Who has turned a mapping off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PausedBy {
    /// The steward, since the breaker is open.
    Steward,
    /// A person. The steward leaves it alone.
    Hand,
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

impl From<Depth> for Queue {
    fn from(depth: Depth) -> Self {
        Self { waiting: depth.visible, in_flight: depth.in_flight, delayed: depth.delayed }
    }
}

impl Queue {
    /// All that is in it.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.waiting + self.in_flight + self.delayed
    }
}

/// To `pass`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// Another steward was at work all the time, and nothing was done.
    pub busy: bool,
    /// The ledger as a whole; none where it could not be asked.
    pub ledger: Option<Clock>,
    /// How many events are set aside in the outbox; none where it could not be asked.
    #[serde(default)]
    pub set_aside: Option<i64>,
    /// What became of each cutover plan that is under way.
    #[serde(default)]
    pub cutovers: Vec<Judged>,
    /// What was compared of each agent that is compared with an old system, by name.
    #[serde(default)]
    pub compared: Vec<Advanced>,
    /// What was done about each backfill that is running, by its agent's name.
    #[serde(default)]
    pub backfills: Vec<Backfilled>,
    /// What was done for each agent, by name.
    pub agents: Vec<Tended>,
    /// What went wrong beyond a single agent.
    pub troubles: Vec<String>,
}

impl Pass {
    /// How much went wrong in all.
    #[must_use]
    pub fn troubles(&self) -> usize {
        self.troubles.len() + self.agents.iter().map(|agent| agent.standing.troubles.len()).sum::<usize>()
    }

    /// How many deliveries are parked, of all agents that could be counted.
    #[must_use]
    pub fn parked(&self) -> i64 {
        self.agents.iter().filter_map(|agent| agent.standing.deliveries).map(|deliveries| deliveries.parked).sum()
    }

    /// How many breakers are open.
    #[must_use]
    pub fn breakers_open(&self) -> usize {
        let open = |agent: &&Tended| agent.standing.breaker.as_ref().is_some_and(|breaker| breaker.state == "open");
        self.agents.iter().filter(open).count()
    }
}

/// The ledger's clock after a tick.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    /// For how many seconds some long transaction has held back the point up to which the ledger can count.
    pub held_back_secs: f64,
    /// For how many seconds the oldest delivery of an old system has waited for it.
    pub old_waits_secs: f64,
    /// For how many events the ledger has room.
    pub room: i64,
    /// How many events stood in the table and not in the log.
    pub logged_late: i64,
    /// How many partitions of settled deliveries were dropped for their age.
    pub dropped: usize,
    /// Why the oldest partition was kept, in the database's words, where this pass looked (once an hour): a single parked delivery keeps its whole
    /// partition, until it is redriven or dismissed.
    #[serde(default)]
    pub kept_because: Option<String>,
    /// How many old failures, audit rows and notes of late arrivals were forgotten.
    #[serde(default)]
    pub pruned: u64,
}

/// What was done for an agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tended {
    /// How it stands now.
    #[serde(flatten)]
    pub standing: Standing,
    /// Rows that were missing in the ledger and are there now.
    pub found: i64,
    /// Deliveries that went to its queue again.
    pub sent: usize,
    /// Parked deliveries that are its turn again without anybody's asking.
    pub redriven: usize,
    /// Letters that the queue itself had moved to the dead-letter queue, and that say so now.
    pub died: usize,
    /// Letters that nobody needed any more.
    pub stale: usize,
    /// Messages that SNS could not deliver, and that are in the queue now.
    pub delivered: usize,
}

impl Tended {
    /// Its breaker's state has changed since.
    pub(crate) fn now(&mut self, state: BreakerState) {
        if let Some(breaker) = &mut self.standing.breaker {
            breaker.state = spoken(state).to_owned();
        }
    }
}
