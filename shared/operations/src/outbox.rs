//! Events that could not be published.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An event that could not be published: no agent receives it.
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
    /// When the shim gave it up: RFC 3339.
    pub parked_at: String,
}

/// To `outbox`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// The events that could not be published, the oldest first, at most 1,000.
    pub unpublishable: Vec<UnpublishableEvent>,
}

/// To `retry_publishing`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// How many events the shim tries again.
    pub retried: u64,
}
