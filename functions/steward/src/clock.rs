//! What is done for the ledger as a whole.

use crate::answer::Clock;
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use switchyard_store::{Retention, Store, Tick};
use tokio::time::Instant;

/// How often it looks further back, in each process: soon after its start, and then this often.
const DEEPER_EVERY: Duration = Duration::from_secs(3_600);
/// How far back it looks for events that were never logged. A tick looks back ten minutes.
const DEEPER_HOURS: u32 = 48;
/// How many partitions go in one pass at most: each drop locks the ledger for a moment.
const MOST_DROPS: usize = 10;

/// The ledger's clock, and when it looked further back for the last time.
#[derive(Default)]
pub(crate) struct Ticking {
    deeper_at: Mutex<Option<Instant>>,
}

impl Ticking {
    /// One tick; and once an hour a look for what was never logged, and retention. What cannot be done is told, and the rest goes on.
    pub(crate) async fn advance(&self, store: &Store, troubles: &mut Vec<String>) -> Option<Clock> {
        let tick = match store.tick().await {
            Ok(tick) => tick,
            Err(error) => {
                troubles.push(format!("the ledger's tick: {error}"));
                return None;
            }
        };
        let mut clock = Clock::from(&tick);
        if self.deeper_is_due() {
            deeper(store, &mut clock, troubles).await;
        }
        Some(clock)
    }

    /// Whether it is time to look further back; then it is not for another hour.
    fn deeper_is_due(&self) -> bool {
        let mut at = self.deeper_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = at.is_none_or(|at| at.elapsed() >= DEEPER_EVERY);
        if due {
            *at = Some(Instant::now());
        }
        due
    }
}

impl From<&Tick> for Clock {
    fn from(tick: &Tick) -> Self {
        Self {
            held_back_secs: tick.held_back_secs,
            old_waits_secs: tick.old_waits_secs,
            room: tick.room,
            logged_late: tick.logged_late,
            dropped: 0,
        }
    }
}

async fn deeper(store: &Store, clock: &mut Clock, troubles: &mut Vec<String>) {
    match store.log_what_is_unlogged(DEEPER_HOURS).await {
        Ok(logged) => clock.logged_late += logged,
        Err(error) => troubles.push(format!("looking for events that were never logged: {error}")),
    }
    while clock.dropped < MOST_DROPS {
        match store.drop_oldest().await {
            Ok(Retention::Dropped(partition)) => {
                tracing::info!(partition, "dropped for its age: everything in it is settled");
                clock.dropped += 1;
            }
            Ok(Retention::Kept(_)) => return,
            // A claim that held on to it: next time, then.
            Err(error) if error.is_conflict() => return,
            Err(error) => return troubles.push(format!("retention: {error}")),
        }
    }
}
