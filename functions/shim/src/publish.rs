//! The pipeline: a reader, concurrent publish calls, and a deleter, on one thread.

use crate::{
    Settings,
    lease::{Lease, NAME},
    work::{Call, Work},
};
use serde::Serialize;
use std::{rc::Rc, time::Duration};
use switchyard_bus::{BusError, Message, Topic};
use switchyard_faults::{bug, point};
use switchyard_store::{Store, StoreError};
use tokio::{
    task::{JoinSet, LocalSet},
    time::{Instant, sleep_until},
};

/// How many accepted events are deleted at once, at least, while there is more to do.
const DELETE: usize = 200;
/// The part of an invocation's time that is kept for the calls in flight and the last delete.
const RESERVE: Duration = Duration::from_secs(8);

/// Publishes rows of the outbox to a topic.
pub struct Publisher<T> {
    store: Store,
    topic: Rc<T>,
    settings: Settings,
}

/// What one invocation did.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Events that the topic accepted and that were deleted from the outbox.
    pub published: u64,
    /// Entries that the topic refused; they are tried again.
    pub refused: u64,
    /// Events that could not be published: no message can hold them, or the topic refused them too often. They stay in the outbox, parked, and no
    /// agent receives them.
    pub parked: u64,
}

/// The outcome of waking the shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Woken {
    /// Another shim runs already, and polls once more before it ends.
    Running,
    /// No shim ran: this one has published what was pending.
    Published(Report),
}

/// When one run of the pipeline ends.
#[derive(Debug, Clone, Copy)]
struct Until {
    /// At the latest.
    end: Instant,
    /// Or as soon as nothing is pending.
    drained: bool,
}

impl<T: Topic + 'static> Publisher<T> {
    /// A publisher from this store to this topic.
    pub fn new(store: Store, topic: T, settings: Settings) -> Self {
        Self { store, topic: Rc::new(topic), settings }
    }

    /// Publishes until its time is up, until enough newer shims run or, if it is not resident, until nothing is pending.
    ///
    /// # Errors
    /// [`StoreError`] if the database does not answer. What was published and not deleted by then is published again.
    pub async fn publish(&self, deadline: Instant) -> Result<Report, StoreError> {
        let end = deadline.checked_sub(RESERVE).unwrap_or_else(Instant::now);
        let drained = self.settings.resident.is_zero();
        let end = if drained { end } else { end.min(Instant::now() + self.settings.resident) };
        self.run(Until { end, drained }).await
    }

    /// Publishes what is pending and ends. If a shim runs already, notifies that one and returns at once.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub async fn wake(&self, deadline: Instant) -> Result<Woken, StoreError> {
        if self.store.notify(NAME).await? {
            return Ok(Woken::Running);
        }
        let end = deadline.checked_sub(RESERVE).unwrap_or_else(Instant::now);
        self.run(Until { end, drained: true }).await.map(Woken::Published)
    }

    async fn run(&self, until: Until) -> Result<Report, StoreError> {
        let mut lease = Lease::join(&self.store, self.settings.shims, self.settings.times).await?;
        let mut work = Work::new(self.settings.publish_concurrency);
        let result = LocalSet::new().run_until(self.work(&mut work, &mut lease, until)).await;
        if result.is_err() {
            // The failure is what counts; if the lease cannot be given back either, it runs out.
            let _ = lease.leave(true).await;
        }
        tracing::info!(published = work.report.published, refused = work.report.refused, "published");
        result.map(|()| work.report)
    }

    async fn work(&self, work: &mut Work, lease: &mut Lease<'_>, until: Until) -> Result<(), StoreError> {
        let mut calls: JoinSet<Call> = JoinSet::new();
        loop {
            let in_time = Instant::now() < until.end;
            if in_time {
                self.share(work, lease).await?;
            }
            let going = in_time && lease.stays();
            if going {
                work.read(&self.store).await?;
                while calls.len() < self.settings.publish_concurrency
                    && let Some(before) = lease.start_before()
                    && let Some(call) = work.plan.next_call(Instant::now())
                {
                    self.deleted_too_early(&call).await?;
                    calls.spawn_local(publish_call(Rc::clone(&self.topic), call, before));
                }
            }
            if calls.is_empty() {
                work.delete(&self.store).await?;
                let drained = until.drained && lease.is_complete() && work.drained();
                if (!going || drained) && lease.leave(!going).await? {
                    return Ok(());
                }
                if drained {
                    work.poll_now();
                }
            }
            // Only a call that returns, a read, the end of a backoff or the lease can change what there is to do.
            let next = work.next().into_iter().fold(until.end.min(lease.ask_at()), Instant::min);
            tokio::select! {
                Some(returned) = calls.join_next() => {
                    // A call does not panic; if it did, its events would stay in the outbox for the next invocation.
                    if let Ok(call) = returned { work.returned(call) }
                    while let Some(Ok(call)) = calls.try_join_next() { work.returned(call) }
                }
                () = sleep_until(next), if going || calls.is_empty() => {}
            }
            work.count_refusals(&self.store).await?;
            if work.undeleted() >= DELETE {
                work.delete(&self.store).await?;
            }
        }
    }

    /// Renews the lease, gives back surplus shards, and restricts the work to the shards that it holds.
    async fn share(&self, work: &mut Work, lease: &mut Lease<'_>) -> Result<(), StoreError> {
        work.hold(lease.shards());
        let surplus = lease.surplus();
        if !surplus.is_empty() && !work.plan.has_in_flight(surplus) {
            // Otherwise the next holder would publish it again.
            work.delete(&self.store).await?;
        }
        lease.renew(|surplus| work.plan.has_in_flight(surplus)).await?;
        work.hold(lease.shards());
        point("shim.after_lease");
        Ok(())
    }

    /// A bug that the fault suite can plant: to delete events before they are published.
    async fn deleted_too_early(&self, call: &[(i64, Message)]) -> Result<(), StoreError> {
        if bug("mark_before_publish") {
            let seqs: Vec<i64> = call.iter().map(|(seq, _)| *seq).collect();
            self.store.published(&seqs).await?;
        }
        Ok(())
    }
}

/// One call, unless the process was suspended for so long that its lease may have ended: then another shim may be publishing these events.
async fn publish_call<T: Topic>(topic: Rc<T>, call: Vec<(i64, Message)>, before: Instant) -> Call {
    let (seqs, messages): (Vec<i64>, Vec<Message>) = call.into_iter().unzip();
    point("shim.before_publish");
    if Instant::now() >= before {
        let late = "this process was suspended for longer than its lease allows";
        return (seqs, Err(BusError { operation: "PublishBatch", detail: late.into(), transient: true, setup: false }));
    }
    let answer = topic.publish(&messages).await;
    point("shim.after_publish");
    (seqs, answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_bus::MemoryTopic;

    #[tokio::test]
    async fn a_process_that_was_suspended_until_its_lease_ended_publishes_nothing() {
        let topic = Rc::new(MemoryTopic::default());
        let call = || vec![(7, Message::new("{}".into()))];
        let (seqs, late) = publish_call(Rc::clone(&topic), call(), Instant::now()).await;
        assert_eq!((seqs, late.unwrap_err().transient, topic.published().len()), (vec![7], true, 0));
        let in_time = publish_call(Rc::clone(&topic), call(), Instant::now() + RESERVE).await;
        assert!(in_time.1.is_ok() && topic.published().len() == 1);
    }
}
