//! The pipeline: a reader, lanes that publish, and a deleter, on one thread.

use crate::{
    Settings, envelope,
    lease::Lease,
    plan::{Plan, Waiting},
};
use serde::Serialize;
use std::{collections::HashSet, rc::Rc, time::Duration};
use switchyard_bus::{BusError, Message, Published, Topic, aws::CALL_TIMEOUT};
use switchyard_store::{Store, StoreError};
use tokio::{
    task::{JoinSet, LocalSet},
    time::{Instant, sleep_until},
};

/// How many rows one read takes.
const PAGE: i64 = 500;
/// How many accepted events are deleted at once, at least, while there is more to do.
const DELETE: usize = 200;
/// The pause between two looks at an empty outbox: short after an event, longer the longer nothing comes.
const IDLE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));
/// How long an aggregate is held back after a refusal, doubling while refusals go on.
const HOLD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often the topic may refuse an event for a reason of its own before it is set aside.
const REFUSALS: u16 = 5;
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

type Call = (Vec<i64>, Result<Vec<Published>, BusError>);

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
        let mut work = Work::default();
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
                work.read(&self.store, self.settings.lanes).await?;
                while lanes.len() < self.settings.lanes
                    && lease.outlasts(CALL_TIMEOUT)
                    && let Some(call) = work.plan.next_call()
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
            tokio::select! {
                Some(landed) = lanes.join_next() => {
                    // A lane does not panic; if it did, its events are unanswered and stay in the outbox for the next invocation.
                    if let Ok(call) = landed { work.land(call) }
                    while let Some(Ok(call)) = lanes.try_join_next() { work.land(call) }
                }
                () = sleep_until(work.look_at), if going => {}
            }
            work.count_faults(&self.store).await?;
            if work.landed.len() >= DELETE {
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

/// What the loop knows.
struct Work {
    plan: Plan,
    /// Accepted by the topic and not yet deleted.
    landed: HashSet<i64>,
    /// Where the pass through what is pending goes on; every pass starts from the beginning, so that late commits are met.
    after: i64,
    /// When to look at the outbox again.
    look_at: Instant,
    idle: Duration,
    release_at: Option<Instant>,
    hold: Duration,
    /// Refused by the topic for a reason of their own, and not yet counted.
    faulty: Vec<(i64, String)>,
    carried: Carried,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            plan: Plan::default(),
            landed: HashSet::new(),
            after: 0,
            look_at: Instant::now(),
            idle: IDLE.0,
            release_at: None,
            hold: HOLD.0,
            faulty: Vec::new(),
            carried: Carried::default(),
        }
    }
}

impl Work {
    /// Reads a page of what is pending, when it is time and there is room.
    async fn read(&mut self, store: &Store, lanes: usize) -> Result<(), StoreError> {
        let now = Instant::now();
        if self.release_at.is_some_and(|at| now >= at) {
            self.plan.release();
            self.release_at = None;
        }
        if now < self.look_at || self.plan.len() > lanes * switchyard_bus::BATCH_ENTRIES {
            return Ok(());
        }
        let rows = store.pending(self.after, PAGE).await?;
        let full = rows.len() as i64 == PAGE;
        let (mut fresh, mut poison) = (false, Vec::new());
        for row in &rows {
            if self.plan.knows(row.seq) || self.landed.contains(&row.seq) {
                continue;
            }
            fresh = true;
            match envelope::message(row) {
                Ok(message) => {
                    let aggregate = format!("{}/{}", row.aggregate_type, row.aggregate_id);
                    self.plan.offer(row.seq, || Waiting { aggregate, message });
                }
                Err(error) => {
                    tracing::error!(event.id = %row.id, %error, "this row cannot be published: set aside");
                    poison.push((row.seq, format!("{}: {error}", error.reason())));
                }
            }
        }
        self.set_aside(store, &poison, 1).await?;
        self.after = if full { rows.last().map_or(0, |row| row.seq) } else { 0 };
        self.idle = if fresh { IDLE.0 } else { (self.idle * 2).min(IDLE.1) };
        self.look_at = if full { now } else { now + self.idle };
        Ok(())
    }

    fn land(&mut self, (seqs, answer): Call) {
        let answers = answer.unwrap_or_else(|error| {
            tracing::warn!(%error, events = seqs.len(), "a call to the topic failed; its events are tried again");
            vec![Err(switchyard_bus::Refused { code: "CallFailed".into(), permanent: false }); seqs.len()]
        });
        let mut refused = 0;
        for (seq, answer) in seqs.into_iter().zip(answers) {
            match answer {
                Ok(()) => {
                    self.plan.accepted(seq);
                    self.landed.insert(seq);
                }
                Err(refusal) => {
                    tracing::warn!(
                        seq,
                        code = refusal.code,
                        permanent = refusal.permanent,
                        "the topic refused an event"
                    );
                    self.plan.refused(seq);
                    refused += 1;
                    if refusal.permanent {
                        self.faulty.push((seq, refusal.code));
                    }
                }
            }
        }
        self.carried.refused += refused;
        if refused == 0 {
            self.hold = HOLD.0;
        } else {
            self.release_at = Some(Instant::now() + self.hold);
            self.look_at = self.look_at.min(Instant::now() + self.hold);
            self.hold = (self.hold * 2).min(HOLD.1);
        }
    }

    async fn delete(&mut self, store: &Store) -> Result<(), StoreError> {
        if !self.landed.is_empty() {
            let seqs: Vec<i64> = self.landed.iter().copied().collect();
            store.published(&seqs).await?;
            self.carried.published += seqs.len() as u64;
            self.landed.clear();
            self.look_at = Instant::now();
        }
        Ok(())
    }

    /// Counts what the topic refused for a reason of its own, and sets aside what it has refused too often.
    async fn count_faults(&mut self, store: &Store) -> Result<(), StoreError> {
        let faulty = std::mem::take(&mut self.faulty);
        self.set_aside(store, &faulty, REFUSALS).await
    }

    async fn set_aside(&mut self, store: &Store, faulty: &[(i64, String)], max: u16) -> Result<(), StoreError> {
        if !faulty.is_empty() {
            for seq in store.refused(faulty, max).await? {
                self.plan.forget(seq);
                self.carried.set_aside += 1;
            }
        }
        Ok(())
    }

    /// Whether a whole pass found nothing that could go.
    fn drained(&self) -> bool {
        self.plan.is_empty() && self.landed.is_empty() && self.after == 0 && self.idle > IDLE.0
    }
}
