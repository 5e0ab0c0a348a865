//! Events that could not be published.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An event that was refused so often that it is not carried any more: no agent gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpublishableEvent {
    /// Its place in the event log.
    pub seq: i64,
    /// The event.
    pub event_id: Uuid,
    /// Such as `feedback.created`.
    pub event_type: String,
    /// What was wrong the last time.
    pub reason: String,
    /// How often it was refused.
    pub attempts: u16,
    /// When it was set aside: RFC 3339.
    pub parked_at: String,
}

/// To `outbox`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// What is set aside, the oldest first, at most 1,000.
    pub set_aside: Vec<UnpublishableEvent>,
}

/// To `retry_publishing`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// How many events the shim tries again.
    pub carried: u64,
}
