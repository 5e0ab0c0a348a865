//! What failed, and who did what about it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A failed or parked attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRow {
    /// Its number; they grow with time.
    pub id: i64,
    /// When: RFC 3339.
    pub at: String,
    /// The event; `None` for a body that is none.
    pub event_id: Option<Uuid>,
    /// The queue's name for a message whose body is no event.
    pub message_id: Option<String>,
    /// 0, or a replay.
    pub run: i32,
    /// The event's place in the event log.
    pub seq: Option<i64>,
    /// Which attempt it was.
    pub attempt: i32,
    /// Whether it was the last: parked.
    pub parked: bool,
    /// A short word for the kind of failure.
    pub reason: String,
    /// What happened.
    pub error: Option<String>,
}

/// A setting that an operator, or the system, has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Its number; they grow with time.
    pub id: i64,
    /// When: RFC 3339.
    pub at: String,
    /// Who: the operator's name, or the database's role if none was named.
    pub by: String,
    /// What was done, such as `redrive`.
    pub action: String,
    /// To what: an agent, or what is no agent, such as `shim`.
    pub component: Option<String>,
    /// Further particulars.
    pub detail: serde_json::Value,
}
