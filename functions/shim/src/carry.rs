//! The pipeline: a reader, lanes that publish, and a deleter, on one thread.

use crate::{
    Settings,
    lease::Lease,
    work::{Call, Work},
};
use serde::Serialize;
use std::{rc::Rc, time::Duration};
use switchyard_bus::{Message, Topic, aws::CALL_TIMEOUT};
use switchyard_store::{Store, StoreError};
use tokio::{
    task::{JoinSet, LocalSet},
    time::{Instant, sleep_until},
};

/// How many accepted events are deleted at once, at least, while there is more to do.
const DELETE: usize = 200;
/// What is kept of an invocation's time for the calls under way and the last delete.
const RESERVE: Duration = Duration::from_secs(8);

/// Carries rows from the table to a topic.
pub struct Carrier<T> {
    store: Store,
    topic: Rc<T>,
    settings: Settings,
}

/// What one invocation did.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// Events that the topic accepted and that were deleted from the outbox.
    pub published: u64,
    /// Entries that the topic refused; they are tried again.
    pub refused: u64,
    /// Rows that no queue could carry, or that the topic refused too often: set aside, visible in the ledger.
    pub set_aside: u64,
}

impl<T: Topic + 'static> Carrier<T> {
    /// A carrier from this store to this topic.
    pub fn new(store: Store, topic: T, settings: Settings) -> Self {
        Self { store, topic: Rc::new(topic), settings }
    }

    /// Carries until its time is up, until somebody waits for its lease or, where it is not resident, until nothing is pending.
    ///
    /// # Errors
    /// [`StoreError`] where the database could not be asked. What was published and not deleted by then is published again.
    pub async fn carry(&self, deadline: Instant) -> Result<Carried, StoreError> {
        let deadline = deadline.checked_sub(RESERVE).unwrap_or_else(Instant::now);
        let end = if self.settings.resident.is_zero() {
            deadline
        } else {
            deadline.min(Instant::now() + self.settings.resident)
        };
        let Some(mut lease) = Lease::acquire(&self.store, end).await? else {
            return Ok(Carried::default());
        };
        let mut work = Work::new(self.settings.lanes);
        let result = LocalSet::new().run_until(self.work(&mut work, &mut lease, end)).await;
        lease.release().await?;
        tracing::info!(published = work.carried.published, refused = work.carried.refused, "carried");
        result.map(|()| work.carried)
    }

    async fn work(&self, work: &mut Work, lease: &mut Lease<'_>, end: Instant) -> Result<(), StoreError> {
        let mut lanes: JoinSet<Call> = JoinSet::new();
        loop {
            let going = Instant::now() < end && lease.keep().await?;
            if going {
                work.read(&self.store).await?;
                while lanes.len() < self.settings.lanes
                    && lease.outlasts(CALL_TIMEOUT)
                    && let Some(call) = work.plan.next_call(Instant::now())
                {
                    lanes.spawn_local(publish(Rc::clone(&self.topic), call));
                }
            }
            if lanes.is_empty() {
                work.delete(&self.store).await?;
                if !going || (self.settings.resident.is_zero() && work.drained()) {
                    return Ok(());
                }
            }
            // Nothing but a landing, a read, a release or the lease can change what there is to do.
            let next = work.next().into_iter().fold(end.min(lease.renew_at()), Instant::min);
            tokio::select! {
                Some(landed) = lanes.join_next() => {
                    // A lane does not panic; if it did, its events are unanswered and stay in the outbox for the next invocation.
                    if let Ok(call) = landed { work.land(call) }
                    while let Some(Ok(call)) = lanes.try_join_next() { work.land(call) }
                }
                () = sleep_until(next), if going => {}
            }
            work.count_faults(&self.store).await?;
            if work.undeleted() >= DELETE {
                work.delete(&self.store).await?;
            }
        }
    }
}

async fn publish<T: Topic>(topic: Rc<T>, call: Vec<(i64, Message)>) -> Call {
    let (seqs, messages): (Vec<i64>, Vec<Message>) = call.into_iter().unzip();
    let answer = topic.publish(&messages).await;
    (seqs, answer)
}
