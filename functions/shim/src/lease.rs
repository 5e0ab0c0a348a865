//! The right to publish, for a short while at a time.

use std::time::Duration;
use switchyard_store::{Store, StoreError};
use tokio::time::Instant;
use uuid::Uuid;

/// How long the lease lasts without a renewal: how long a shim that died keeps the next one waiting.
const LASTS_SECS: u32 = 12;
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(3);
/// How often somebody who waits for it asks.
const ASK: Duration = Duration::from_millis(200);
/// The lease's name.
const NAME: &str = "shim/0";

/// A lease that is held, as far as this process can know.
pub(crate) struct Lease<'a> {
    store: &'a Store,
    holder: Uuid,
    /// By this process's clock, counted from before the database was asked: never later than the database's own.
    until: Instant,
    renew_at: Instant,
    wanted: bool,
}

impl<'a> Lease<'a> {
    /// Waits for the lease; `None` if somebody else holds it until `deadline`. Asking tells the holder to hand over.
    pub(crate) async fn acquire(store: &'a Store, deadline: Instant) -> Result<Option<Self>, StoreError> {
        let holder = Uuid::new_v4();
        loop {
            let now = Instant::now();
            let answer = store.lease(NAME, holder, LASTS_SECS).await?;
            if answer.held {
                let until = now + Duration::from_millis(answer.until_ms_left);
                return Ok(Some(Self { store, holder, until, renew_at: now + RENEW, wanted: false }));
            }
            if now + ASK >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(ASK).await;
        }
    }

    /// Renews the lease when it is time. After `false` nothing more may be started: it is lost, or somebody waits for it.
    pub(crate) async fn keep(&mut self) -> Result<bool, StoreError> {
        let now = Instant::now();
        if now >= self.renew_at && !self.wanted {
            let answer = self.store.lease(NAME, self.holder, LASTS_SECS).await?;
            self.until = if answer.held { now + Duration::from_millis(answer.until_ms_left) } else { now };
            self.renew_at = now + RENEW;
            self.wanted = answer.wanted;
        }
        Ok(self.until > now && !self.wanted)
    }

    /// When it is to be renewed.
    pub(crate) fn renew_at(&self) -> Instant {
        self.renew_at
    }

    /// Whether the lease surely lasts so long.
    pub(crate) fn outlasts(&self, work: Duration) -> bool {
        self.until > Instant::now() + work
    }

    /// Gives it back, so that the next one need not wait.
    pub(crate) async fn release(self) -> Result<(), StoreError> {
        self.store.release(NAME, self.holder).await.map(|_| ())
    }
}
