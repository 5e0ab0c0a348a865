//! What the pipeline's loop knows: the plan, what is to be deleted, and when to poll again.

use crate::{
    COULD_NOT_BE_PUBLISHED, Report,
    plan::{PER_AGGREGATE, Plan},
};
use std::{collections::HashSet, time::Duration};
use switchyard_bus::{BATCH_ENTRIES, BusError, Published, TOPIC_BYTES};
use switchyard_faults::{bug, point};
use switchyard_runtime::envelope;
use switchyard_store::{Known, Page, Pending, Shards, Store, StoreError};
use tokio::time::Instant;

/// What one read takes. The bytes bound the memory that a page of large rows needs.
const PAGE: Page = Page {
    rows: 500,
    per_aggregate: PER_AGGREGATE,
    payload_bytes: TOPIC_BYTES,
    bytes: ROOM_BYTES,
    shards: Shards::ALL,
};
/// No read while there are so many bytes in the plan: twice what sixteen calls take.
const ROOM_BYTES: usize = 8 * 1024 * 1024;
/// The pause between two polls of the outbox: short after an event, doubled while nothing comes.
const IDLE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));
/// How often the topic may refuse an event for the event's own sake before it is parked.
const REFUSALS: u16 = 5;

/// The sequences of a call, and its answer.
pub(crate) type Call = (Vec<i64>, Result<Vec<Published>, BusError>);

/// What the loop knows.
pub(crate) struct Work {
    pub(crate) plan: Plan,
    pub(crate) report: Report,
    /// The shards that are ours to publish.
    shards: Shards,
    /// How many aggregates the plan has room for.
    room: usize,
    /// Accepted by the topic and not yet deleted.
    undeleted: HashSet<i64>,
    /// When to poll the outbox again.
    poll_at: Instant,
    idle: Duration,
    /// The last read left nothing out and found nothing.
    found_nothing: bool,
    /// Refused by the topic for their own sake, and not yet counted.
    uncounted: Vec<(i64, String)>,
    /// The highest sequence that was read, for a bug that the fault suite plants: see [`Work::is_behind`].
    cursor: i64,
}

impl Work {
    /// Nothing known and no shard held yet, for so many calls in flight.
    pub(crate) fn new(publish_concurrency: usize) -> Self {
        Self {
            plan: Plan::default(),
            report: Report::default(),
            shards: Shards::NONE,
            room: publish_concurrency * BATCH_ENTRIES,
            undeleted: HashSet::new(),
            poll_at: Instant::now(),
            idle: IDLE.0,
            found_nothing: false,
            uncounted: Vec::new(),
            cursor: 0,
        }
    }

    /// From now on these shards are ours. Waiting events of other shards are forgotten; those in flight stay.
    pub(crate) fn hold(&mut self, shards: Shards) {
        if shards != self.shards {
            self.shards = shards;
            self.plan.restrict(shards);
            self.poll_now();
        }
    }

    /// There may be more than the last read has found.
    pub(crate) fn poll_now(&mut self) {
        self.found_nothing = false;
        self.idle = IDLE.0;
        self.poll_at = Instant::now();
    }

    /// Reads what is pending and not known yet, when it is time and there is room. Two kinds of reads take turns: a poll leaves out the full
    /// aggregates and finds whatever else there is; the other, where a full aggregate runs low, fetches more of it.
    pub(crate) async fn read(&mut self, store: &Store) -> Result<(), StoreError> {
        let began = Instant::now();
        let poll = began >= self.poll_at;
        if self.shards.is_empty() || !self.has_room() || !(poll || self.plan.runs_low()) {
            return Ok(());
        }
        if !poll {
            self.plan.reopen();
        }
        let seqs = self.plan.seqs().chain(self.undeleted.iter().copied()).collect();
        let known = Known { seqs, full: self.plan.full() };
        let rows = store.pending(&known, Page { shards: self.shards, ..PAGE }).await?;
        point("shim.after_read");
        let took = began.elapsed();
        let before = self.plan.len();
        let unpublishable = self.take_in(&rows);
        let fresh = self.plan.len() > before || !unpublishable.is_empty();
        self.park(store, &unpublishable, 1).await?;
        self.found_nothing = rows.is_empty() && known.full.is_empty();
        if poll {
            self.idle = if fresh { IDLE.0 } else { (self.idle * 2).min(IDLE.1) };
            self.poll_at = match known.full.len() {
                // Behind an aggregate that has become full may be others.
                before if self.plan.full().len() > before => Instant::now(),
                0 => Instant::now() + self.idle,
                // A poll past the backlog of full aggregates may take long, and is not to be all that the database does.
                _ => Instant::now() + self.idle.max(took * 2),
            };
        }
        Ok(())
    }

    /// Offers rows to the plan. Returns those that no message can hold, each with its reason.
    fn take_in(&mut self, rows: &[Pending]) -> Vec<(i64, String)> {
        let mut unpublishable = Vec::new();
        for row in rows {
            if self.is_behind(row.seq) {
                continue;
            }
            // The aggregate of a row that is larger than the store reads is not known: the row is parked, whatever the plan wants.
            let offered = match &row.excess {
                Some(_) => envelope::message(row).map(drop),
                // By the aggregate's id alone, as the store leaves out full aggregates by their ids alone.
                None => self.plan.offer(row.seq, &row.aggregate_id, || envelope::message(row)),
            };
            if let Err(error) = offered {
                unpublishable.push((row.seq, format!("{}: {error}", error.reason())));
            }
        }
        unpublishable
    }

    /// A bug that the fault suite can plant: to go on from the highest sequence that was read.
    fn is_behind(&mut self, seq: i64) -> bool {
        let behind = seq <= self.cursor;
        self.cursor = self.cursor.max(seq);
        behind && bug("sequence_cursor")
    }

    /// When there may be something to do, apart from calls that return.
    pub(crate) fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        if self.shards.is_empty() {
            return None;
        }
        let poll = self.has_room().then(|| if self.plan.runs_low() { now } else { self.poll_at });
        poll.into_iter().chain(self.plan.next_retry(now)).min()
    }

    /// Aggregates are counted and not events, since each sends one event at a time.
    fn has_room(&self) -> bool {
        self.plan.aggregates() <= self.room && self.plan.bytes() <= ROOM_BYTES
    }

    /// Takes in the answer of a call.
    pub(crate) fn returned(&mut self, (seqs, answer): Call) {
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
                let because_of_an_entry = !error.transient && !error.setup;
                tracing::warn!(%error, events = seqs.len(), "a call to the topic failed; its events are tried again");
                if because_of_an_entry && seqs.len() > 1 {
                    // Which one it is shows when each is sent by itself.
                    seqs.into_iter().for_each(|seq| self.plan.retry_alone(seq));
                } else {
                    seqs.into_iter().for_each(|seq| self.refused(seq, error.detail.clone(), because_of_an_entry));
                }
            }
        }
    }

    fn accepted(&mut self, seq: i64) {
        self.plan.accepted(seq);
        self.undeleted.insert(seq);
    }

    fn refused(&mut self, seq: i64, why: String, permanent: bool) {
        tracing::warn!(seq, why, permanent, "the topic refused an event");
        self.plan.refused(seq, Instant::now());
        self.report.refused += 1;
        if permanent {
            self.uncounted.push((seq, why));
        }
    }

    /// How many events the topic has accepted that are still in the outbox.
    pub(crate) fn undeleted(&self) -> usize {
        self.undeleted.len()
    }

    /// Deletes what the topic has accepted.
    pub(crate) async fn delete(&mut self, store: &Store) -> Result<(), StoreError> {
        if !self.undeleted.is_empty() {
            let seqs: Vec<i64> = self.undeleted.iter().copied().collect();
            store.published(&seqs).await?;
            point("shim.after_delete");
            self.report.published += seqs.len() as u64;
            self.undeleted.clear();
        }
        Ok(())
    }

    /// Counts what the topic has refused for the events' own sake, and parks what it has refused too often.
    pub(crate) async fn count_refusals(&mut self, store: &Store) -> Result<(), StoreError> {
        let refused = std::mem::take(&mut self.uncounted);
        self.park(store, &refused, REFUSALS).await
    }

    /// Counts these refusals, and parks in the outbox the events that have been refused `max` times.
    async fn park(&mut self, store: &Store, refused: &[(i64, String)], max: u16) -> Result<(), StoreError> {
        if !refused.is_empty() {
            for seq in store.refused(refused, max).await? {
                let reason = refused.iter().find(|(of, _)| *of == seq).map(|(_, reason)| reason.as_str());
                tracing::error!(seq, reason, "{COULD_NOT_BE_PUBLISHED}");
                self.plan.forget(seq);
                self.report.parked += 1;
            }
        }
        Ok(())
    }

    /// Whether nothing is pending any more.
    pub(crate) fn drained(&self) -> bool {
        self.found_nothing && self.plan.is_empty() && self.undeleted.is_empty()
    }
}
