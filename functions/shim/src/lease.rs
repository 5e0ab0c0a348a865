//! The right to publish: a lease on shards of aggregates, shared with the other shims.

use crate::settings::Times;
use std::time::Duration;
use switchyard_store::{Shards, Share, Sharer, Store, StoreError};
use tokio::time::Instant;
use uuid::Uuid;

/// The name of the lease.
pub(crate) const NAME: &str = "shim";

/// This shim's part of the lease, as far as this process can know.
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
    /// Takes part from now on, as one of at most `at_once`. The others see it and give back what is over their share.
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

    /// Renews when it is time, and gives back the surplus once `busy` says that none of its events is in flight or still to be deleted.
    pub(crate) async fn renew(&mut self, busy: impl FnOnce(Shards) -> bool) -> Result<(), StoreError> {
        let now = Instant::now();
        let surplus = self.surplus();
        let back = if !surplus.is_empty() && !busy(surplus) { surplus } else { Shards::NONE };
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

    /// The shards that may be published from here. None once the lease has run out.
    pub(crate) fn shards(&self) -> Shards {
        if self.until > Instant::now() || trusts_the_lease() {
            self.share.held.without(self.surplus())
        } else {
            Shards::NONE
        }
    }

    /// The shards that are held and are to be given back: no call starts for them.
    pub(crate) fn surplus(&self) -> Shards {
        surplus(&self.share)
    }

    /// Whether it holds its fair share, so that another shim holds the rest.
    pub(crate) fn is_complete(&self) -> bool {
        self.share.held.len() == self.share.fair
    }

    /// Whether it may stay; otherwise there are enough newer shims.
    pub(crate) fn stays(&self) -> bool {
        self.share.stays
    }

    /// When to renew.
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

    /// Gives everything back, so that the next shim need not wait. `false` where it was woken meanwhile: then it is to poll once more. With `anyway`
    /// it leaves all the same.
    pub(crate) async fn leave(&self, anyway: bool) -> Result<bool, StoreError> {
        self.store.leave(&self.sharer, anyway).await
    }
}

/// A bug that the fault suite can plant: a lease that is shorter than a call may take (a second), and no allowance for that.
fn trusts_the_lease() -> bool {
    switchyard_faults::bug("lease_shorter_than_publish")
}

/// What is over the fair share: the highest shards, so that it is the same ones each time.
fn surplus(share: &Share) -> Shards {
    share.held.highest(share.held.len().saturating_sub(share.fair))
}

/// How long until the next renewal: soon below the fair share, seldom without another shim.
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
    fn a_shim_below_its_share_asks_often_and_one_that_is_alone_seldom() {
        let times = Times::default();
        assert_eq!(pause(&share(3, 8, false), &times), times.ask);
        assert_eq!(pause(&share(16, 16, true), &times), times.renew);
        assert!(pause(&share(8, 8, false), &times) < times.renew);
    }

    proptest! {
        #[test]
        fn exactly_what_is_over_the_fair_share_is_given_back(held in 0u8..=16, fair in 0usize..=16) {
            let share = share(held, fair, false);
            let surplus = surplus(&share);
            prop_assert!(share.held.contain(surplus));
            prop_assert_eq!(share.held.without(surplus).len(), usize::from(held).min(fair));
        }
    }
}
