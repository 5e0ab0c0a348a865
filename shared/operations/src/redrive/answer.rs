//! What the redrive function answers: one type for each action. Keys are promises to scripts; a new one may come, none goes.
//!
//! No answer holds a payload.

use super::Redrive;
use crate::audit::{AuditRow, FailureRow};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// To `list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Every dead-letter queue of the stack, by agent.
    pub queues: Vec<DeadLetterQueue>,
}

/// A dead-letter queue in numbers. SQS counts approximately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterQueue {
    /// Whose it is.
    pub agent: String,
    /// What it holds.
    pub kind: Kind,
    /// Its name.
    pub queue: String,
    /// Dead letters that wait.
    pub waiting: u64,
    /// Dead letters that a reader has received and not released.
    pub in_flight: u64,
    /// The age of the oldest dead letter that was seen, in seconds; none where the queue is empty.
    pub oldest_secs: Option<u64>,
    /// How many deliveries are parked by the ledger, which outlives the queue; of an agent's own dead-letter queue only.
    pub parked: Option<i64>,
    /// The running move task.
    pub moving: Option<Moving>,
    /// Why the numbers are missing, where they are.
    pub error: Option<String>,
}

/// What a dead-letter queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What the agent parked.
    Agent,
    /// What SNS could not deliver to the agent's queue.
    Subscription,
}

/// A move task of SQS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moving {
    /// SQS's word for how it stands: RUNNING, COMPLETED, CANCELLING, CANCELLED, FAILED.
    pub status: String,
    /// How many messages it has moved.
    pub moved: i64,
    /// How many there were when it began.
    pub to_move: Option<i64>,
    /// When it began, RFC 3339.
    pub started_at: Option<String>,
    /// Why it failed, where it did.
    pub failure: Option<String>,
}

/// To `inspect`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspected {
    /// Whose.
    pub agent: String,
    /// How many are parked in all groups.
    pub parked: i64,
    /// What is parked by the ledger, by reason and type, the largest first.
    pub groups: Vec<ParkedGroup>,
    /// Dead letters that the queue holds and the ledger does not count as parked.
    pub queue: InspectedQueue,
}

/// What the inspection of the dead-letter queue found. Nothing was removed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InspectedQueue {
    /// How many dead letters were read.
    pub seen: usize,
    /// Whether that was all of them.
    pub complete: bool,
    /// How many could not be read, since another reader has received them.
    #[serde(default)]
    pub hidden: u64,
    /// Dead letters whose delivery is not parked, by reason.
    pub not_parked: Vec<DeadLetterGroup>,
}

/// Dead letters of one state, reason and type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeadLetterGroup {
    /// The state of the delivery: `settled` (the copy is not needed), `under_way` (it is tried again), `no_event` (the body names no event), `no_row` (the
    /// ledger has no delivery for this agent).
    pub ledger: String,
    /// The dead letter's own reason; `process_died` where it has none: the queue's redrive policy put it there.
    pub reason: String,
    /// The event's type, where it is known.
    pub event_type: Option<String>,
    /// How many.
    pub count: usize,
}

/// How a redrive sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// A move task of SQS moves the dead letters to the agent's queue; what the dead-letter queue no longer has is sent from the table.
    Move,
    /// The events are sent from the table.
    Table,
    /// Dead letter by dead letter to the agent's queue: no move task serves a subscription's dead-letter queue.
    Messages,
    /// A move task is running already; nothing was done.
    AlreadyMoving,
    /// There is nothing to redrive.
    Nothing,
}

/// To `redrive` and `edit`. In a dry run the numbers say what would be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Redriven {
    /// To which agent.
    pub agent: String,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// How.
    pub way: Way,
    /// How many parked deliveries were requeued.
    pub deliveries: i64,
    /// What they are, by reason and type; in a dry run only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ParkedGroup>,
    /// How many dead letters the dead-letter queue held.
    pub dead_letters: u64,
    /// How many messages were sent to the agent's queue by this call; a move task's are not among them.
    pub sent: usize,
    /// How many copies of redriven events were removed from the dead-letter queue by this call.
    pub removed: usize,
    /// After how many seconds the table sends what the move task did not bring.
    pub defer_secs: u32,
    /// The move task, started or already running.
    pub moving: Option<Moving>,
    /// What did not work, and what that means. The rest was done.
    pub trouble: Option<String>,
    /// The number of the payload's new version, after an edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i32>,
}

impl Redriven {
    /// Nothing done yet, for an order.
    #[must_use]
    pub fn nothing(order: &Redrive) -> Self {
        Self {
            agent: order.agent.clone(),
            dry_run: order.dry_run,
            way: Way::Nothing,
            deliveries: 0,
            groups: Vec::new(),
            dead_letters: 0,
            sent: 0,
            removed: 0,
            defer_secs: 0,
            moving: None,
            trouble: None,
            revision: None,
        }
    }

    /// One more thing that did not work.
    pub fn troubled(&mut self, trouble: String) {
        self.trouble = Some(match self.trouble.take() {
            Some(before) => format!("{before}; {trouble}"),
            None => trouble,
        });
    }
}

/// To `dismiss`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dismissed {
    /// Whose.
    pub agent: String,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// How many parked deliveries are settled for good, or would be.
    pub deliveries: i64,
    /// What did not work, and what that means. The rest was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// To `progress` and `cancel`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Whose.
    pub agent: String,
    /// The running move task, or the latest; none where there never was one.
    pub moving: Option<Moving>,
    /// How many dead letters the dead-letter queue holds.
    pub dead_letters: u64,
    /// Deliveries that are assigned or failing.
    pub under_way: i64,
    /// Deliveries that are parked.
    pub parked: i64,
    /// What did not work, and what that means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// To `auto`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Automatic {
    /// Whose.
    pub agent: String,
    /// How often each delivery at most; 0 is off.
    pub times: u16,
    /// After how many seconds the first time.
    pub first_after_secs: u32,
}

/// To `failures`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failures {
    /// Whose.
    pub agent: String,
    /// The latest first.
    pub failures: Vec<FailureRow>,
}

/// To `audit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Audited {
    /// The latest first.
    pub audit: Vec<AuditRow>,
}

/// Parked deliveries of one reason and one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedGroup {
    /// Why they are parked.
    pub reason: String,
    /// The events' type; `None` for bodies that are no events, or events that are not in the table.
    pub event_type: Option<String>,
    /// How many.
    pub count: i64,
    /// When the first of them was parked: RFC 3339.
    pub oldest: String,
    /// When the last of them was parked: RFC 3339.
    pub newest: String,
    /// What the last of them says.
    pub error: Option<String>,
    /// The last three events.
    pub examples: Vec<Uuid>,
}
