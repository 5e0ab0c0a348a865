//! What a schedule and people do: find what is missing, send again, replay, forget.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::Type;

use crate::row::{clean, count, get, only};
use crate::{Store, StoreError};

/// What a [`Store::tick`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// The last sequence drawn.
    pub last_seq: i64,
    /// Up to here no transaction can still commit an event.
    pub stable_seq: i64,
    /// For how many seconds the stable point has been held back, by some long transaction.
    pub held_back_secs: f64,
    /// How many partitions were made ahead.
    pub partitions_added: i32,
    /// For how many sequences the partitions have room. Under a million it should be an alarm: without room no claim can be written.
    pub room: i64,
    /// For how many seconds the oldest delivery that belongs to an old system has been waiting for it.
    pub old_waits_secs: f64,
    /// How many events of the last ten minutes had no log row and have one now: more than none means that something inserts past the
    /// trigger, or that the sequence was behind.
    pub logged_late: i64,
}

/// What a [`Store::sweep`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many rows it wrote.
    pub written: i64,
    /// Whether another sweep would get further.
    pub more: bool,
}

/// What a [`Store::reassign`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassigned {
    /// How many rows changed their owner.
    pub moved: i64,
    /// Whether another call would get further at once.
    pub more: bool,
    /// Nothing is left over, and nobody can still write by an older routing. Takes two passes at least.
    pub complete: bool,
}

/// What a [`Store::resend`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resent {
    /// Rows that are new: of a replay, or of events that nobody had asked for.
    pub added: i64,
    /// Rows that were unfinished or parked and are due again.
    pub redriven: i64,
}

/// Something to be sent (again) to an agent's queue; [`Store::events`] has the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The event's place in the event log.
    pub seq: i64,
    /// The run it is for.
    pub run: i32,
    /// The row's epoch.
    pub epoch: i32,
    /// How often it was handed out since its last answer, without those [`Overdue::ByAnHour`].
    pub sends: u16,
}

/// What of that which is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overdue {
    /// All of it.
    Now,
    /// What has been due for an hour: while a queue still holds messages, only that is taken for lost. Does not count towards the twenty
    /// sends after which a delivery is given up, since what nobody answers may only be waiting in the queue.
    ByAnHour,
}

impl Overdue {
    fn secs(self) -> i64 {
        match self {
            Self::Now => 0,
            Self::ByAnHour => 3_600,
        }
    }
}

/// What a [`Store::drop_oldest`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retention {
    /// This partition is gone.
    Dropped(String),
    /// None went, because of this.
    Kept(String),
}

/// A window takes a second or two; a sweep that takes so much longer waits for something.
const SWEEP_LIMIT: Duration = Duration::from_secs(30);

/// How many rows a pass of `reassign` moves at most; and how many passes one call makes.
const FULL_PASS: i64 = 5_000;
const MOST_PASSES: usize = 200;

impl Store {
    /// What a schedule does for the whole ledger, at least once a minute: sets a fence, makes partitions ahead, forgets what was deleted
    /// and logs what was not.
    ///
    /// Fails with [`StoreError::Config`] if row-level security hides events from this role.
    pub async fn tick(&self) -> Result<Tick, StoreError> {
        const OP: &str = "tick";
        let rows = self
            .write(
                OP,
                "select last_seq, stable_seq, oldest_fence_secs, partitions_added, room, old_waits_secs, logged_late
                   from switchyard.tick()",
                &[],
            )
            .await?;
        let row = only(OP, rows)?;
        Ok(Tick {
            last_seq: get(OP, &row, 0)?,
            stable_seq: get(OP, &row, 1)?,
            held_back_secs: get(OP, &row, 2)?,
            partitions_added: get(OP, &row, 3)?,
            room: get(OP, &row, 4)?,
            old_waits_secs: get(OP, &row, 5)?,
            logged_late: get(OP, &row, 6)?,
        })
    }

    /// Logs events of the last `hours` that have no log row, up to a thousand, and returns how many: to be asked now and then for longer
    /// than the ten minutes that each [`Store::tick`] looks back. What was inserted before the first setup is left alone.
    ///
    /// Fails with [`StoreError::Config`] if row-level security hides events from this role.
    pub async fn log_what_is_unlogged(&self, hours: u32) -> Result<i64, StoreError> {
        const OP: &str = "log_what_is_unlogged";
        let sql = "select switchyard.unlogged(clock_timestamp() - $1::bigint * interval '1 hour')";
        let rows = self.write(OP, sql, &[(&i64::from(hours), Type::INT8)]).await?;
        get(OP, &only(OP, rows)?, 0)
    }

    /// Writes the rows that are missing for events older than the agent's grace, in the next fifty thousand sequences, and drains where that
    /// is ordered. What it did stays done: whoever has time left asks again while there is [`Swept::more`].
    ///
    /// Fails with [`StoreError::Conflict`] when a claim held it up: the next sweep does it; with [`StoreError::Unavailable`] when it took
    /// longer than half a minute.
    pub async fn sweep(&self, agent: &str) -> Result<Swept, StoreError> {
        const OP: &str = "sweep";
        let mut tx = self.begin_within(SWEEP_LIMIT).await?;
        let rows = tx.query("select written, more from switchyard.sweep($1)", &[(&agent, Type::TEXT)]).await?;
        let row = only(OP, rows)?;
        let swept = Swept { written: get(OP, &row, 0)?, more: get(OP, &row, 1)? };
        tx.commit().await?;
        // A standing order to drain is obeyed to its end, in transactions that are short each.
        let drained =
            "select x.moved, x.complete from switchyard.agent a cross join lateral switchyard.reassign(a.name) x
                        where a.name = $1 and a.drain";
        self.passes(OP, drained, agent, None).await?;
        Ok(swept)
    }

    /// Leases up to `limit` deliveries that are due, the longest overdue first, and returns what to send, in the order of the sequence.
    /// A send that is lost is due again when the lease runs out: after the agent's grace the first time, then twice as long each time
    /// without an answer, up to an hour, and up to a fifth more. After twenty sends without any answer a delivery is parked as
    /// `unanswered` instead. One whose event was deleted is settled as expired. A call that does anything leaves an audit row.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered, or if row-level security hides events from this role.
    pub async fn due(&self, agent: &str, limit: i32, overdue: Overdue) -> Result<Vec<Due>, StoreError> {
        const OP: &str = "due";
        let rows = self
            .write(
                OP,
                "select seq, run, epoch, sends from switchyard.due($1, $2, $3 * interval '1 second') order by seq, run",
                &[(&agent, Type::TEXT), (&limit, Type::INT4), (&overdue.secs(), Type::INT8)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Due {
                    seq: get(OP, row, 0)?,
                    run: get(OP, row, 1)?,
                    epoch: get(OP, row, 2)?,
                    sends: count(get(OP, row, 3)?),
                })
            })
            .collect()
    }

    /// Opens a replay for an agent and returns its run, above 0.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn new_run(&self, agent: &str, reason: &str) -> Result<i32, StoreError> {
        let rows = self
            .write(
                "new_run",
                "select switchyard.new_run($1, $2)",
                &[(&agent, Type::TEXT), (&clean(reason).as_ref(), Type::TEXT)],
            )
            .await?;
        get("new_run", &only("new_run", rows)?, 0)
    }

    /// Makes these events due again. Run 0 redrives what is unfinished or parked and leaves what is settled alone; a run above 0 adds what
    /// is settled in run 0, and repeating it never redoes a done one. [`Store::due`] then hands them out.
    ///
    /// Fails with [`StoreError::Config`] if the run is not an open one of this agent.
    pub async fn resend(&self, agent: &str, seqs: &[i64], run: i32, reason: &str) -> Result<Resent, StoreError> {
        const OP: &str = "resend";
        let rows = self
            .write(
                OP,
                "select added, redriven from switchyard.resend($1, $2, $3, $4)",
                &[
                    (&agent, Type::TEXT),
                    (&seqs, Type::INT8_ARRAY),
                    (&run, Type::INT4),
                    (&clean(reason).as_ref(), Type::TEXT),
                ],
            )
            .await?;
        let row = only(OP, rows)?;
        Ok(Resent { added: get(OP, &row, 0)?, redriven: get(OP, &row, 1)? })
    }

    /// Ends a replay: what is unfinished or parked is superseded. Returns how many.
    ///
    /// Fails with [`StoreError::Config`] if there is no such run.
    pub async fn cancel_run(&self, run: i32) -> Result<i64, StoreError> {
        let rows = self.write("cancel_run", "select switchyard.cancel_run($1)", &[(&run, Type::INT4)]).await?;
        get("cancel_run", &only("cancel_run", rows)?, 0)
    }

    /// Gives unfinished and parked live deliveries to whom the routing of now names, five thousand in a transaction, up to a million
    /// in a call. What is being processed is skipped and met in a later call. What an old system has failed is parked instead: it may have
    /// done half of it.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn reassign(&self, agent: &str) -> Result<Reassigned, StoreError> {
        self.reassign_until(agent, None).await
    }

    /// [`Store::reassign`] that begins no transaction from `ends` on, but for the first; none for no such end.
    ///
    /// Fails as that does.
    pub async fn reassign_until(&self, agent: &str, ends: Option<Instant>) -> Result<Reassigned, StoreError> {
        const OP: &str = "reassign";
        let passes = self.passes(OP, "select moved, complete from switchyard.reassign($1)", agent, ends).await?;
        passes.ok_or_else(|| StoreError::bug(OP, "no row came back"))
    }

    /// Passes of `reassign` until one is not full, or begins too late. `None` where the statement gives no row.
    async fn passes(
        &self,
        op: &'static str,
        sql: &str,
        agent: &str,
        ends: Option<Instant>,
    ) -> Result<Option<Reassigned>, StoreError> {
        let mut all: Option<Reassigned> = None;
        for _ in 0..MOST_PASSES {
            let rows = self.write(op, sql, &[(&agent, Type::TEXT)]).await?;
            let Some(row) = rows.first() else { break };
            let (moved, complete): (i64, bool) = (get(op, row, 0)?, get(op, row, 1)?);
            let more = moved == FULL_PASS;
            all = Some(Reassigned { moved: moved + all.map_or(0, |a| a.moved), more, complete });
            if !more || ends.is_some_and(|ends| Instant::now() >= ends) {
                break;
            }
        }
        Ok(all)
    }

    /// Drops the oldest partition of the ledger where it is older than 45 days, swept, and without unfinished rows. Its events are too old
    /// to run from then on.
    ///
    /// Fails with [`StoreError::Conflict`] when a claim was under way for longer than it may keep the others waiting: next time, then.
    pub async fn drop_oldest(&self) -> Result<Retention, StoreError> {
        let rows = self.write("drop_oldest", "select dropped, kept_because from switchyard.drop_oldest()", &[]).await?;
        let row = only("drop_oldest", rows)?;
        let dropped: Option<String> = get("drop_oldest", &row, 0)?;
        let kept: Option<String> = get("drop_oldest", &row, 1)?;
        Ok(dropped.map_or_else(|| Retention::Kept(kept.unwrap_or_default()), Retention::Dropped))
    }
    /// Forgets failures and audit rows that are older than a year, and what came from below the ledger's floor over 45 days ago: up to ten
    /// thousand of each, for once an hour. Returns how many went.
    pub async fn prune(&self) -> Result<u64, StoreError> {
        const OP: &str = "prune";
        let rows = self.write(OP, "select switchyard.prune()", &[]).await?;
        let n: i64 = get(OP, &only(OP, rows)?, 0)?;
        Ok(n.unsigned_abs())
    }

    /// Whether the last deeper look is so long ago that the caller should take one now; the database remembers, so that it does not matter
    /// which process asks, and of those who ask at once one is told so. Whoever is and dies leaves it to the next time.
    pub async fn deeper(&self, every: Duration) -> Result<bool, StoreError> {
        const OP: &str = "deeper";
        let sql = "select switchyard.take_hourly_check($1 * interval '1 second')";
        let rows = self.write(OP, sql, &[(&every.as_secs_f64(), Type::FLOAT8)]).await?;
        get(OP, &only(OP, rows)?, 0)
    }
}
