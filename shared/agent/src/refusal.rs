//! Why an event was not handled, in words that say what happens next.

use std::time::Duration;
use switchyard_event::{DecodeError, PayloadError};
use thiserror::Error;

/// Never retried: the event goes to the dead-letter queue with this reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}: {detail}")]
pub struct Reject {
    /// A short stable word that failures are grouped by, such as `no_title`.
    pub reason: &'static str,
    /// What the operator needs to understand it. Never a value of the payload.
    pub detail: String,
}

impl Reject {
    /// A rejection.
    #[must_use]
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl From<DecodeError> for Reject {
    fn from(error: DecodeError) -> Self {
        Self::new("malformed", error.to_string())
    }
}

impl From<PayloadError> for Reject {
    fn from(error: PayloadError) -> Self {
        Self::new("bad_event", error.to_string())
    }
}

/// Why an event was not handled.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Tried again after a while; costs an attempt.
    #[error("{reason}")]
    Retry {
        /// Why, for the operator. Never a value of the payload.
        reason: String,
        /// How long to wait, where that is known better than by the schedule.
        after: Option<Duration>,
    },
    /// Never tried again.
    #[error(transparent)]
    Reject(#[from] Reject),
    /// Something that the agent depends on is down or throttles; costs no attempt. Five in a row that one process meets, with
    /// nothing done between, open the agent's breaker; each process counts for itself.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The database is down; costs no attempt, and does not open the breaker, which is in the same database. The
    /// runtime's [`Tx`](crate::Agent::Tx) returns it; agents pass it on.
    #[error("the database is unavailable: {0}")]
    DatabaseDown(String),
    /// The time of the invocation ended first; costs no attempt, and does not open the breaker. Only the runtime returns it.
    #[error("the time of the invocation ended first")]
    OutOfTime,
    /// The record gathered for as long as it may, and had no answer. Only the runtime returns it. It counts as [`Refusal::Unavailable`], unless only
    /// this event is never answered, as far as the runtime can tell: then it costs an attempt.
    #[error("it was not answered in time")]
    Unanswered,
    /// An operator edited the event's payload meanwhile: it comes again at once, with the new one, and costs no attempt. Only the runtime returns it.
    #[error("its payload was edited meanwhile")]
    Edited,
    /// The facts were outdated: gathered and decided anew at once, costs no attempt.
    #[error("the facts were outdated: {0}")]
    Conflict(String),
    /// A newer event has written already: settled as superseded.
    #[error("superseded by a newer event")]
    Superseded,
}

impl Refusal {
    /// Tried again by the agent's schedule.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Self::Reject(error.into())
    }
}

impl From<PayloadError> for Refusal {
    fn from(error: PayloadError) -> Self {
        Self::Reject(error.into())
    }
}
