//! The right to make a pass: one steward at a time.

use std::time::{Duration, SystemTime};
use switchyard_store::{Shards, Sharer, Store, StoreError};
use tokio::time::Instant;
use uuid::Uuid;

/// How often somebody who waits asks.
const ASK: Duration = Duration::from_millis(200);
/// How long one who waits counts as waiting without asking again.
const WAITS_MS: u32 = 2_000;
/// What the right outlasts the pass by: nothing starts after the pass's end, and what has started by then has timeouts of its own.
const SPARE: Duration = Duration::from_secs(5);

/// The right, held until it is given back. It is a lease on every shard of something that only one may have.
pub(crate) struct Turn<'a> {
    store: &'a Store,
    sharer: Sharer,
    /// Until when it lasts, by both clocks: the one stands still while the process is frozen with its machine, the other may be set.
    until: (Instant, SystemTime),
}

impl<'a> Turn<'a> {
    /// Waits for it until `give_up`, and takes it for as long as the pass may last; `None` where another steward was at work all the time. A steward
    /// that dies keeps the next ones waiting for a minute at most.
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
        let turn = Self { store, sharer, until };
        // Another one may have come in the moment in which the short lease ran out.
        if kept { Ok(Some(turn)) } else { turn.end().await.map(|()| None) }
    }

    /// Whether it has been held without a gap, and is still: asked before each step that another steward may undo. One that stood still beyond
    /// its turn must not end what it began, since others have been there.
    pub(crate) async fn lasts(&self) -> Result<bool, StoreError> {
        if Instant::now() >= self.until.0 || SystemTime::now() >= self.until.1 {
            return Ok(false);
        }
        Ok(self.store.share(&self.sharer, Shards::NONE).await?.held == Shards::ALL)
    }

    /// Gives it back, so that the next one need not wait.
    pub(crate) async fn end(self) -> Result<(), StoreError> {
        self.store.leave(&self.sharer, true).await.map(|_| ())
    }
}
