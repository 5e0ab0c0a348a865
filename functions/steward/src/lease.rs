//! The lease on a pass: one steward at a time.

use std::time::{Duration, SystemTime};
use switchyard_store::{Shards, Sharer, Store, StoreError};
use tokio::time::Instant;
use uuid::Uuid;

/// How often a waiting steward asks.
const ASK: Duration = Duration::from_millis(200);
/// How long a waiting steward counts as waiting without asking again.
const WAITS_MS: u32 = 2_000;
/// How long the lease lasts beyond the pass: nothing starts after the pass has ended, and what has started by then has its own timeouts.
const SPARE: Duration = Duration::from_secs(5);

/// The lease, until it is given back. It covers all shards of the name `steward`, so only one process can hold it.
pub(crate) struct PassLease<'a> {
    store: &'a Store,
    sharer: Sharer,
    /// Until when it lasts, by two clocks: the monotonic one stops while the machine is suspended, and the wall clock may be set.
    until: (Instant, SystemTime),
}

impl<'a> PassLease<'a> {
    /// Waits for it until `give_up`, and takes it for as long as the pass may last; `None` if another steward held it all the time. A steward that dies
    /// delays the next one by a minute at most.
    pub(crate) async fn take(store: &'a Store, give_up: Instant, ends: Instant) -> Result<Option<Self>, StoreError> {
        let mut sharer = Sharer { name: "steward", holder: Uuid::new_v4(), at_once: 1, lasts_ms: WAITS_MS };
        while store.share(&sharer, Shards::NONE).await?.held != Shards::ALL {
            if Instant::now() + ASK >= give_up {
                store.leave(&sharer, true).await?;
                return Ok(None);
            }
            tokio::time::sleep(ASK).await;
        }
        let lasts = ends.saturating_duration_since(Instant::now()) + SPARE;
        sharer.lasts_ms = u32::try_from(lasts.as_millis()).unwrap_or(u32::MAX);
        let until = (Instant::now() + lasts, SystemTime::now() + lasts);
        let kept = store.share(&sharer, Shards::NONE).await?.held == Shards::ALL;
        let lease = Self { store, sharer, until };
        // Another steward may have taken it in the moment in which the short lease ended.
        if kept { Ok(Some(lease)) } else { lease.end().await.map(|()| None) }
    }

    /// Whether this process has held it without a gap, and holds it still. Asked before each step that another steward may undo: a process that was
    /// suspended until its lease ended must not continue.
    pub(crate) async fn lasts(&self) -> Result<bool, StoreError> {
        if Instant::now() >= self.until.0 || SystemTime::now() >= self.until.1 {
            return Ok(false);
        }
        Ok(self.store.share(&self.sharer, Shards::NONE).await?.held == Shards::ALL)
    }

    /// Gives it back, so that the next steward need not wait.
    pub(crate) async fn end(self) -> Result<(), StoreError> {
        self.store.leave(&self.sharer, true).await.map(|_| ())
    }
}
