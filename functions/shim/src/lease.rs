//! The right to publish: shards of aggregates, shared with whoever else publishes, for a short while at a time.

use crate::settings::Times;
use std::time::Duration;
use switchyard_store::{Shards, Share, Sharer, Store, StoreError};
use tokio::time::Instant;
use uuid::Uuid;

/// What is shared.
pub(crate) const NAME: &str = "shim";

/// A part in the sharing, and what is held as far as this process can know.
pub(crate) struct Lease<'a> {
    store: &'a Store,
    sharer: Sharer,
    times: Times,
    share: Share,
    /// By this process's clock, counted from before the database was asked: never later than the database's own.
    until: Instant,
    ask_at: Instant,
}

impl<'a> Lease<'a> {
    /// Takes part from now on, of at most `at_once` who do. Asking tells the others to hand over.
    pub(crate) async fn join(store: &'a Store, at_once: u16, times: Times) -> Result<Self, StoreError> {
        let lasts = if trusts_the_lease() { times.lease / 12 } else { times.lease };
        let lasts_ms = u32::try_from(lasts.as_millis()).unwrap_or(u32::MAX);
        let sharer = Sharer { name: NAME, holder: Uuid::new_v4(), at_once, lasts_ms };
        let now = Instant::now();
        let share = store.share(&sharer, Shards::NONE).await?;
        let mut lease = Self { store, sharer, times, share, until: now, ask_at: now };
        lease.take(share, now);
        Ok(lease)
    }

    /// Renews when it is time, and gives back what somebody else is to have once `busy` says that nothing is on its way for it and nothing of
    /// it is still to be deleted.
    pub(crate) async fn keep(&mut self, busy: impl FnOnce(Shards) -> bool) -> Result<(), StoreError> {
        let now = Instant::now();
        let giving = self.giving();
        let back = if !giving.is_empty() && !busy(giving) { giving } else { Shards::NONE };
        if now >= self.ask_at || !back.is_empty() {
            let share = self.store.share(&self.sharer, back).await?;
            self.take(share, now);
        }
        Ok(())
    }

    fn take(&mut self, share: Share, asked: Instant) {
        self.share = share;
        self.until = asked + Duration::from_millis(share.until_ms_left);
        self.ask_at = asked + pause(&share, &self.times);
    }

    /// What may be published from here. Nothing, once the lease has run out.
    pub(crate) fn shards(&self) -> Shards {
        if self.until > Instant::now() || trusts_the_lease() {
            self.share.held.without(self.giving())
        } else {
            Shards::NONE
        }
    }

    /// What is held and to be given back: nothing more is started for it.
    pub(crate) fn giving(&self) -> Shards {
        giving(&self.share)
    }

    /// Whether it holds what is its due, so that what it does not hold is somebody else's.
    pub(crate) fn is_complete(&self) -> bool {
        self.share.held.len() == self.share.fair
    }

    /// Whether it may stay; otherwise enough newer ones are there.
    pub(crate) fn stays(&self) -> bool {
        self.share.stays
    }

    /// When it is to be renewed.
    pub(crate) fn ask_at(&self) -> Instant {
        self.ask_at
    }

    /// Until when a call may be started that the lease surely outlasts; `None` where that is past.
    pub(crate) fn start_before(&self) -> Option<Instant> {
        if trusts_the_lease() {
            return Some(Instant::now() + self.times.lease);
        }
        self.until.checked_sub(self.times.call).filter(|before| *before > Instant::now())
    }

    /// Gives everything back, so that the next one need not wait. `false` where somebody has knocked: then it is to look once more. With
    /// `anyway` it leaves all the same.
    pub(crate) async fn leave(&self, anyway: bool) -> Result<bool, StoreError> {
        self.store.leave(&self.sharer, anyway).await
    }
}

/// A mistake that the fault suite can switch on: a lease that is shorter than a publish may take (a second), and no reckoning with that.
fn trusts_the_lease() -> bool {
    switchyard_faults::bug("lease_shorter_than_publish")
}

/// What is over the fair share goes back: the highest, so that the same ones are named each time.
fn giving(share: &Share) -> Shards {
    share.held.highest(share.held.len().saturating_sub(share.fair))
}

/// How long until the next question: soon while something is missing, seldom when nobody else is there.
fn pause(share: &Share, times: &Times) -> Duration {
    match (share.held.len() < share.fair, share.alone) {
        (true, _) => times.ask,
        (false, false) => times.renew / 3,
        (false, true) => times.renew,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn share(held: u8, fair: usize, alone: bool) -> Share {
        Share { held: (0..held).collect(), until_ms_left: 1, fair, stays: true, alone }
    }

    #[test]
    fn who_lacks_something_asks_often_and_who_is_alone_seldom() {
        let times = Times::default();
        assert_eq!(pause(&share(3, 8, false), &times), times.ask);
        assert_eq!(pause(&share(16, 16, true), &times), times.renew);
        assert!(pause(&share(8, 8, false), &times) < times.renew);
    }

    proptest! {
        #[test]
        fn exactly_what_is_over_the_fair_share_is_given_back(held in 0u8..=16, fair in 0usize..=16) {
            let share = share(held, fair, false);
            let giving = giving(&share);
            prop_assert!(share.held.contain(giving));
            prop_assert_eq!(share.held.without(giving).len(), usize::from(held).min(fair));
        }
    }
}
