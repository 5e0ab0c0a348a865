//! Events that wait for their time (`deliver_at`): shown, and cancelled when somebody asks.

mod request;

pub use request::DelaysRequest;

use serde::{Deserialize, Serialize};
use switchyard_store::{Cancellation, Delayed, Delays, Store, StoreError};
use uuid::Uuid;

/// To `delays`: what waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The next first, as many as were asked for.
    pub waiting: Vec<Delayed>,
    /// How many wait in all, whatever was asked for.
    pub in_all: i64,
}

/// To `delays` with `cancel`: what became of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// In the order of the log, each event once.
    pub events: Vec<Became>,
}

/// An event that was to be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Became {
    /// The event.
    pub event_id: Uuid,
    /// What became of it.
    pub became: Cancellation,
}

/// What waits for its time. Changes nothing.
///
/// # Errors
/// As the store's.
pub async fn show(store: &Store, which: &Delays, at_most: i64) -> Result<Waiting, StoreError> {
    Ok(Waiting { waiting: store.delayed(at_most, which).await?, in_all: store.delayed_count().await? })
}

/// Cancels events that wait. Each counts for itself: one that cannot be cancelled any more says so in the answer.
///
/// # Errors
/// As the store's; nothing was cancelled then.
pub async fn cancel(store: &Store, events: &[Uuid], operator: &str, because: &str) -> Result<Cancelled, StoreError> {
    let became = store.cancel_delayed(events, operator, because).await?;
    let events: Vec<Became> = became.into_iter().map(|(event_id, became)| Became { event_id, became }).collect();
    let cancelled = events.iter().filter(|event| event.became == Cancellation::Cancelled).count();
    tracing::info!(operator, asked = events.len(), cancelled, "events that waited were cancelled");
    Ok(Cancelled { events })
}
