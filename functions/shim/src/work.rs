//! What the pipeline's loop knows: the plan, what has landed, and when to look again.

use crate::{
    Carried,
    plan::{PER_AGGREGATE, Plan, Waiting},
};
use std::{collections::HashSet, time::Duration};
use switchyard_bus::{BATCH_ENTRIES, BusError, Published, TOPIC_BYTES};
use switchyard_faults::{bug, point};
use switchyard_runtime::envelope;
use switchyard_store::{Known, Page, Pending, Shards, Store, StoreError};
use tokio::time::Instant;

/// What one read takes. The bytes bound what a page of large rows makes of the memory.
const PAGE: Page = Page {
    rows: 500,
    per_aggregate: PER_AGGREGATE,
    payload_bytes: TOPIC_BYTES,
    bytes: ROOM_BYTES,
    shards: Shards::ALL,
};
/// No read while there are so many bytes in the plan: twice what sixteen lanes carry at once.
const ROOM_BYTES: usize = 8 * 1024 * 1024;
/// The pause between two looks at the outbox: short after an event, longer the longer nothing comes.
const IDLE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));
/// How often the topic may refuse an event for a reason of its own before it is set aside.
const REFUSALS: u16 = 5;

/// The sequences of a call, and what became of it.
pub(crate) type Call = (Vec<i64>, Result<Vec<Published>, BusError>);

/// What the loop knows.
pub(crate) struct Work {
    pub(crate) plan: Plan,
    pub(crate) carried: Carried,
    /// The shards that are ours to publish.
    shards: Shards,
    /// How many aggregates the plan has room for.
    room: usize,
    /// Accepted by the topic and not yet deleted.
    landed: HashSet<i64>,
    /// When to look at the outbox again.
    look_at: Instant,
    idle: Duration,
    /// The last read left nothing out and found nothing.
    dry: bool,
    /// Refused by the topic for a reason of their own, and not yet counted.
    faulty: Vec<(i64, String)>,
    /// The highest sequence that was read, for a mistake of the fault suite's: see [`Work::is_behind`].
    cursor: i64,
}

impl Work {
    /// Nothing known and nothing held yet, for so many lanes.
    pub(crate) fn new(lanes: usize) -> Self {
        Self {
            plan: Plan::default(),
            carried: Carried::default(),
            shards: Shards::NONE,
            room: lanes * BATCH_ENTRIES,
            landed: HashSet::new(),
            look_at: Instant::now(),
            idle: IDLE.0,
            dry: false,
            faulty: Vec::new(),
            cursor: 0,
        }
    }

    /// From now on these shards are ours. What waits of others is forgotten; what of them is on its way lands.
    pub(crate) fn hold(&mut self, shards: Shards) {
        if shards != self.shards {
            self.shards = shards;
            self.plan.restrict(shards);
            self.look_again();
        }
    }

    /// There may be more than the last read has found.
    pub(crate) fn look_again(&mut self) {
        self.dry = false;
        self.idle = IDLE.0;
        self.look_at = Instant::now();
    }

    /// Reads what is pending and not known yet, when it is time and there is room. Two kinds of reads take turns: one looks past the busy
    /// aggregates for whatever else there is, the other, where one of them runs low, fetches more of it.
    pub(crate) async fn read(&mut self, store: &Store) -> Result<(), StoreError> {
        let began = Instant::now();
        let look = began >= self.look_at;
        if self.shards.is_empty() || !self.has_room() || !(look || self.plan.hungry()) {
            return Ok(());
        }
        if !look {
            self.plan.open();
        }
        let seqs = self.plan.seqs().chain(self.landed.iter().copied()).collect();
        let known = Known { seqs, full: self.plan.full() };
        let rows = store.pending(&known, Page { shards: self.shards, ..PAGE }).await?;
        point("shim.after_read");
        let took = began.elapsed();
        let held = self.plan.len();
        let poison = self.take_in(&rows);
        let fresh = self.plan.len() > held || !poison.is_empty();
        self.set_aside(store, &poison, 1).await?;
        self.dry = rows.is_empty() && known.full.is_empty();
        if look {
            self.idle = if fresh { IDLE.0 } else { (self.idle * 2).min(IDLE.1) };
            self.look_at = match known.full.len() {
                // Behind an aggregate that has become full may be others.
                before if self.plan.full().len() > before => Instant::now(),
                0 => Instant::now() + self.idle,
                // A look past the backlog of busy aggregates may take long, and is not to be all that the database does.
                _ => Instant::now() + self.idle.max(took * 2),
            };
        }
        Ok(())
    }

    /// Into the plan with them. Returns those that no queue could carry, each with its reason.
    fn take_in(&mut self, rows: &[Pending]) -> Vec<(i64, String)> {
        let mut poison = Vec::new();
        for row in rows {
            // What the plan does not want now comes again, and costs more to read than to leave.
            if !self.plan.wants(row.seq, &row.aggregate_id) {
                continue;
            }
            if self.is_behind(row.seq) {
                continue;
            }
            match envelope::message(row) {
                // The id alone, as the store leaves out what is full by the id alone.
                Ok(message) => self.plan.offer(row.seq, Waiting::new(row.aggregate_id.clone(), message)),
                Err(error) => {
                    tracing::error!(event.id = %row.id, %error, "this row cannot be published: set aside");
                    poison.push((row.seq, format!("{}: {error}", error.reason())));
                }
            }
        }
        poison
    }

    /// A mistake that the fault suite can switch on: to go on from the highest sequence that was read.
    fn is_behind(&mut self, seq: i64) -> bool {
        let behind = seq <= self.cursor;
        self.cursor = self.cursor.max(seq);
        behind && bug("sequence_cursor")
    }

    /// When there may be something to do, calls that land aside.
    pub(crate) fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        if self.shards.is_empty() {
            return None;
        }
        let look = self.has_room().then(|| if self.plan.hungry() { now } else { self.look_at });
        look.into_iter().chain(self.plan.next_release(now)).min()
    }

    /// Aggregates are counted and not events, since each sends one event at a time.
    fn has_room(&self) -> bool {
        self.plan.aggregates() <= self.room && self.plan.bytes() <= ROOM_BYTES
    }

    /// Takes in what became of a call.
    pub(crate) fn land(&mut self, (seqs, answer): Call) {
        match answer {
            Ok(answers) => {
                for (seq, answer) in seqs.into_iter().zip(answers) {
                    match answer {
                        Ok(()) => self.accepted(seq),
                        Err(refusal) => self.refused(seq, refusal.code, refusal.permanent),
                    }
                }
            }
            Err(error) => {
                let of_an_entry = !error.transient && !error.setup;
                tracing::warn!(%error, events = seqs.len(), "a call to the topic failed; its events are tried again");
                if of_an_entry && seqs.len() > 1 {
                    // Which one it is shows when each is sent by itself.
                    seqs.into_iter().for_each(|seq| self.plan.apart(seq));
                } else {
                    seqs.into_iter().for_each(|seq| self.refused(seq, error.detail.clone(), of_an_entry));
                }
            }
        }
    }

    fn accepted(&mut self, seq: i64) {
        self.plan.accepted(seq);
        self.landed.insert(seq);
    }

    fn refused(&mut self, seq: i64, why: String, permanent: bool) {
        tracing::warn!(seq, why, permanent, "the topic refused an event");
        self.plan.refused(seq, Instant::now());
        self.carried.refused += 1;
        if permanent {
            self.faulty.push((seq, why));
        }
    }

    /// How many events the topic has that are still in the outbox.
    pub(crate) fn undeleted(&self) -> usize {
        self.landed.len()
    }

    /// Deletes what the topic has.
    pub(crate) async fn delete(&mut self, store: &Store) -> Result<(), StoreError> {
        if !self.landed.is_empty() {
            let seqs: Vec<i64> = self.landed.iter().copied().collect();
            store.published(&seqs).await?;
            point("shim.after_delete");
            self.carried.published += seqs.len() as u64;
            self.landed.clear();
        }
        Ok(())
    }

    /// Counts what the topic refused for a reason of its own, and sets aside what it has refused too often.
    pub(crate) async fn count_faults(&mut self, store: &Store) -> Result<(), StoreError> {
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

    /// Whether nothing is pending any more.
    pub(crate) fn drained(&self) -> bool {
        self.dry && self.plan.is_empty() && self.landed.is_empty()
    }
}
