//! One pass of the steward.

use crate::{backfill::Backfilled, breaker::BreakerState, compare::Advanced, cutover::Judged, status::Standing};
use serde::{Deserialize, Serialize};

/// To `pass`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// Another steward held the lease all the time, and nothing was done.
    pub busy: bool,
    /// The ledger as a whole; none where it could not be asked.
    pub ledger: Option<Clock>,
    /// How many events could not be published; `None` if the database did not answer.
    #[serde(default)]
    pub unpublishable: Option<i64>,
    /// For how many seconds the first event of the outbox has waited to be published; `None` if the database did not answer.
    #[serde(default)]
    pub oldest_unpublished_secs: Option<f64>,
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
    pub agents: Vec<Reconciled>,
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
        let open = |agent: &&Reconciled| {
            agent.standing.breaker.as_ref().is_some_and(|breaker| breaker.state == BreakerState::Open)
        };
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
pub struct Reconciled {
    /// How it stands now.
    #[serde(flatten)]
    pub standing: Standing,
    /// Rows that were missing in the ledger and are there now.
    pub found: i64,
    /// Deliveries that went to its queue again.
    pub sent: usize,
    /// Parked deliveries that the automatic redrive requeued.
    pub redriven: usize,
    /// Messages that the queue's redrive policy had moved to the dead-letter queue, and that have a reason now.
    pub died: usize,
    /// Dead letters that were deleted, since their deliveries are settled.
    pub stale: usize,
    /// Messages that SNS could not deliver, and that are in the queue now.
    pub delivered: usize,
}
