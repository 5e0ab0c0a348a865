//! What is done for the ledger as a whole.

use crate::answer;
use std::time::Duration;
use switchyard_operations::pass::Clock;
use switchyard_store::{Retention, Store, StoreError};

/// How often it looks further back. The database remembers the last time, since processes of the steward come and go.
const DEEPER_EVERY: Duration = Duration::from_secs(3_600);
/// How far back it looks for events that were never logged. A tick looks back ten minutes.
const DEEPER_HOURS: u32 = 48;
/// How many partitions go in one pass at most: each drop locks the ledger for a moment.
const MOST_DROPS: usize = 10;

/// One tick.
pub(crate) async fn tick(store: &Store) -> Result<Clock, StoreError> {
    store.tick().await.map(|tick| answer::clock(&tick))
}

/// Once an hour: retention, what nobody will ask about any more, and a look for what was never logged, which takes the longest and comes last. What one
/// step does stays done where the next fails or has no time left.
pub(crate) async fn look_deeper(store: &Store, clock: &mut Clock, troubles: &mut Vec<String>) {
    match store.deeper(DEEPER_EVERY).await {
        Ok(true) => {}
        Ok(false) => return,
        Err(error) => return troubles.push(format!("whether it is time to look deeper: {error}")),
    }
    retention(store, clock, troubles).await;
    match store.prune().await {
        Ok(pruned) => clock.pruned = pruned,
        Err(error) => troubles.push(format!("forgetting old failures and audit rows: {error}")),
    }
    match store.log_what_is_unlogged(DEEPER_HOURS).await {
        Ok(logged) => clock.logged_late += logged,
        Err(error) => troubles.push(format!("looking for events that were never logged: {error}")),
    }
}

async fn retention(store: &Store, clock: &mut Clock, troubles: &mut Vec<String>) {
    while clock.dropped < MOST_DROPS {
        match store.drop_oldest().await {
            Ok(Retention::Dropped(partition)) => {
                tracing::info!(partition, "dropped for its age: everything in it is settled");
                clock.dropped += 1;
            }
            Ok(Retention::Kept(because)) => {
                tracing::info!(because, "the oldest partition of the ledger is kept");
                clock.kept_because = Some(because);
                return;
            }
            // A claim that held on to it: next time, then.
            Err(error) if error.is_conflict() => return,
            Err(error) => return troubles.push(format!("retention: {error}")),
        }
    }
}
