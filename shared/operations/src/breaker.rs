//! Breakers: whether what an agent depends on is believed to be up.

use serde::{Deserialize, Serialize};

/// A breaker's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Records are tried.
    #[default]
    Closed,
    /// Nothing is tried.
    Open,
    /// One record at a time is tried.
    HalfOpen,
}

crate::words!(BreakerState { Closed = "closed", Open = "open", HalfOpen = "half_open" });

/// A breaker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Breaker {
    /// Its state.
    pub state: BreakerState,
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
