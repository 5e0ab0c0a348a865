//! What the checker found.

use serde::Serialize;
use std::collections::BTreeMap;

/// One thing that must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// A committed event is not in the table, or a delivery is done and nothing was done.
    Lost,
    /// Something is there that was not committed or caused.
    Phantom,
    /// An effect happened more than once, or one was done by both sides.
    Doubled,
    /// Something was done for a delivery that says otherwise.
    Undone,
    /// An older sequence was written over a newer one.
    Inverted,
    /// Parked for another reason than the drawn one, or done though it should be parked, or the other way round.
    Misparked,
    /// An attempt was spent on something that was not the event's or the agent's fault.
    Spent,
    /// Neither settled nor parked at the deadline.
    Unsettled,
    /// What came in is not what was applied, parked and is pending.
    Unbalanced,
    /// Committed, no longer in the outbox, and never seen by the topic.
    Unpublished,
    /// First publications of one aggregate out of order.
    Disordered,
    /// Two calls at once with events of one aggregate.
    Overlapping,
    /// A call that is larger than the service takes.
    TooLarge,
    /// Parked, and no letter in the dead-letter queue; or a body that is no event, and neither a letter nor a note of it.
    Unburied,
    /// A fault that the run was to have did not happen, or not as it should: then what it did not find proves nothing.
    NotBroken,
    /// Nothing was committed, or an agent is missing: nothing was tested.
    Untested,
}

/// Sums of one agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Events that it should get.
    pub subscribed: u64,
    /// Done, with their effects.
    pub done: u64,
    /// Not needed any more: something newer was written, or it expired.
    pub superseded: u64,
    /// Parked, by reason.
    pub parked: BTreeMap<String, u64>,
    /// Neither.
    pub pending: u64,
}

impl Tally {
    /// The share of deliveries that is settled: done, superseded, or parked with a reason that a person can read.
    #[must_use]
    pub fn settled_share(&self) -> f64 {
        if self.subscribed == 0 { 1.0 } else { 1.0 - self.pending as f64 / self.subscribed as f64 }
    }
}

/// What the checker found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// How often each thing that must not be was found. Empty: all is well.
    pub violations: BTreeMap<Check, u64>,
    /// The first few of each, in words.
    pub examples: BTreeMap<Check, Vec<String>>,
    /// How many events stand in the table.
    pub events: u64,
    /// Sums by agent.
    pub agents: BTreeMap<String, Tally>,
    /// Events whose writers never learned what became of them, and that stand in the table.
    pub unknown_committed: u64,
    /// Events parked because their process died under them again and again, which kills at random may do to an innocent one; each of them takes
    /// three deaths.
    pub died: u64,
}

impl Verdict {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    pub(crate) fn find(&mut self, check: Check, example: impl Into<String>) {
        *self.violations.entry(check).or_default() += 1;
        let examples = self.examples.entry(check).or_default();
        if examples.len() < 5 {
            examples.push(example.into());
        }
    }
}
