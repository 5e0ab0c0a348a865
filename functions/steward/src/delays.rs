//! Events that wait for their time (`deliver_at`): shows them, and cancels them on request.

use switchyard_operations::delays::{Became, Cancellation, Cancelled, Delays, Waiting};
use switchyard_store::{Store, StoreError};
use uuid::Uuid;

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
