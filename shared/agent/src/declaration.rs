//! What an agent declares. Its block of the template and its row in the ledger are made from this, and nothing else has to be edited.

use crate::{Agent, Schedule};
use serde::{Deserialize, Serialize};

/// What keeps events together while a cutover moves them by percentage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoutedBy {
    /// Each aggregate moves as one.
    Aggregate,
    /// Each project moves as one: for agents whose state spans aggregates.
    Project,
}

/// What an agent's function may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The function's timeout, 15 to 900: the last ten seconds of it are kept for reporting. The queue's visibility timeout is six times this (AWS Lambda Developer Guide, "Using Lambda with Amazon SQS").
    pub timeout_secs: u32,
    /// The function's memory, which also sets its share of CPU.
    pub memory_mb: u32,
    /// How many batches at the same time, 2 to 1000: the event source mapping's `MaximumConcurrency`, which bounds database connections.
    pub max_concurrency: u32,
    /// How many records a batch has at most, 1 to 10: more would need a batching window, which delays every event.
    pub batch_size: u32,
}

impl Limits {
    /// Enough for an agent that reads and writes a few rows.
    pub const DEFAULT: Self = Self { timeout_secs: 30, memory_mb: 256, max_concurrency: 10, batch_size: 10 };

    /// Whether AWS takes these limits, and the runtime can keep them.
    #[must_use]
    pub fn are_sound(self) -> bool {
        (15..=900).contains(&self.timeout_secs)
            && (128..=10_240).contains(&self.memory_mb)
            && (2..=1_000).contains(&self.max_concurrency)
            && (1..=10).contains(&self.batch_size)
    }
}

/// Whether an agent has an express queue, and for which `priority` of the metadata, 1 to 10.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpressQueue {
    /// One queue for all events.
    #[default]
    None,
    /// A second queue for events of this priority and above, with an event source mapping of its own: events in the first queue do not delay
    /// it. Only on the standard topology: two queues keep no order between them, and FIFO is chosen for its order.
    From {
        /// The lowest priority that goes to the express queue, 2 to 10.
        priority: u8,
    },
}

impl ExpressQueue {
    /// Priority 8 and above.
    pub const DEFAULT: Self = Self::From { priority: 8 };

    /// Whether both queues can receive events.
    #[must_use]
    pub fn is_sound(self) -> bool {
        match self {
            Self::None => true,
            Self::From { priority } => (2..=10).contains(&priority),
        }
    }
}

/// Everything an agent declares, as data. `bootstrap declare` prints it as JSON, which parses to the same value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declaration {
    /// [`Agent::NAME`].
    pub name: String,
    /// [`Agent::SUBSCRIBES`], in order.
    pub subscribes: Vec<String>,
    /// [`Agent::ROUTED_BY`].
    pub routed_by: RoutedBy,
    /// [`Agent::MAX_ATTEMPTS`].
    pub max_attempts: u16,
    /// [`Agent::SCHEDULE`].
    pub schedule: Schedule,
    /// [`Agent::LIMITS`].
    pub limits: Limits,
    /// [`Agent::EXPRESS_QUEUE`].
    pub express_queue: ExpressQueue,
}

impl Declaration {
    /// What `A` declares.
    #[must_use]
    pub fn of<A: Agent>() -> Self {
        Self {
            name: A::NAME.to_owned(),
            subscribes: A::SUBSCRIBES.iter().map(ToString::to_string).collect(),
            routed_by: A::ROUTED_BY,
            max_attempts: A::MAX_ATTEMPTS,
            schedule: A::SCHEDULE,
            limits: A::LIMITS,
            express_queue: A::EXPRESS_QUEUE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_comes_back_from_its_json_unchanged() {
        for express_queue in [ExpressQueue::None, ExpressQueue::DEFAULT] {
            let declared = Declaration {
                name: "baseline-validation".into(),
                subscribes: vec!["model.evaluated".into(), "clock.ticked".into()],
                routed_by: RoutedBy::Project,
                max_attempts: 7,
                schedule: Schedule { base_ms: 2_000, cap_ms: 60_000 },
                limits: Limits { timeout_secs: 20, memory_mb: 512, max_concurrency: 3, batch_size: 1 },
                express_queue,
            };
            let json = serde_json::to_string(&declared).unwrap();
            assert_eq!(serde_json::from_str::<Declaration>(&json).unwrap(), declared, "{json}");
        }
    }
}
