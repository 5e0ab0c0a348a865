//! What is done for the ledger as a whole.

use crate::answer;
use std::time::Duration;
use switchyard_operations::pass::Clock;
use switchyard_store::{Retention, Store, StoreError};

/// How often the hourly step runs. The database keeps the time of the last run, since processes of the steward come and go.
const EVERY: Duration = Duration::from_secs(3_600);
/// How far back it searches for events that were never logged. A tick searches the last ten minutes.
const SEARCHED_HOURS: u32 = 48;
/// How many partitions go in one pass at most: each drop locks the ledger for a moment.
const MOST_DROPS: usize = 10;

/// One tick.
pub(crate) async fn tick(store: &Store) -> Result<Clock, StoreError> {
    store.tick().await.map(|tick| answer::clock(&tick))
}

/// Once an hour: retention, removal of old failures and audit rows, and a search for events that were never logged, which takes the longest and comes
/// last. Each step commits, whatever becomes of the next.
pub(crate) async fn hourly(store: &Store, clock: &mut Clock, troubles: &mut Vec<String>) {
    match store.deeper(EVERY).await {
        Ok(true) => {}
        Ok(false) => return,
        Err(error) => return troubles.push(format!("whether the hourly step is due: {error}")),
    }
    retention(store, clock, troubles).await;
    match store.prune().await {
        Ok(pruned) => clock.pruned = pruned,
        Err(error) => troubles.push(format!("removing old failures and audit rows: {error}")),
    }
    match store.log_what_is_unlogged(SEARCHED_HOURS).await {
        Ok(logged) => clock.logged_late += logged,
        Err(error) => troubles.push(format!("searching for events that were never logged: {error}")),
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
            // A claim uses the partition: the next hourly step tries again.
            Err(error) if error.is_conflict() => return,
            Err(error) => return troubles.push(format!("retention: {error}")),
        }
    }
}
