//! Reconciliation: the tick, the sweep, due deliveries, replays, reassignment and retention.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::Type;

use crate::row::{clean, count, get, only};
use crate::{Store, StoreError};

/// What a [`Store::tick`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// The last sequence that was assigned.
    pub last_seq: i64,
    /// The stable point: no transaction can still commit an event up to here.
    pub stable_seq: i64,
    /// How many seconds a long transaction has held the stable point back.
    pub held_back_secs: f64,
    /// How many partitions were added.
    pub partitions_added: i32,
    /// How many sequences the partitions have room for. Below a million, raise an alarm: without room no claim can be written.
    pub room: i64,
    /// How many seconds the oldest delivery of an old system has waited.
    pub old_waits_secs: f64,
    /// How many events of the last ten minutes had no row in the event log and have one now. Above 0, something inserts past the trigger, or the
    /// sequence was behind.
    pub logged_late: i64,
}

/// What a [`Store::sweep`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many rows it wrote.
    pub written: i64,
    /// Whether another sweep would advance further.
    pub more: bool,
}

/// What a [`Store::reassign`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassigned {
    /// How many rows changed their owner.
    pub moved: i64,
    /// Whether another call would move more at once.
    pub more: bool,
    /// Nothing is left, and no transaction can still write by an older routing. Takes at least two passes.
    pub complete: bool,
}

/// What a [`Store::resend`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resent {
    /// New rows: of a replay, or of events without a row.
    pub added: i64,
    /// Rows that were unfinished or parked and are due again.
    pub redriven: i64,
}

/// A delivery to send to an agent's queue; [`Store::events`] has the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The event's place in the event log.
    pub seq: i64,
    /// The run it is for.
    pub run: i32,
    /// The row's epoch.
    pub epoch: i32,
    /// How often it was returned as due since the last report, without those [`Overdue::ByAnHour`].
    pub sends: u16,
}

/// Which due deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overdue {
    /// All due deliveries.
    Now,
    /// Those that have been due for an hour: while a queue still holds messages, only they count as lost. They do not count towards the twenty sends
    /// after which a delivery is parked, because the unanswered copy may be waiting in the queue.
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
    /// None was dropped, for this reason.
    Kept(String),
}

/// A window takes a second or two; a sweep that takes this long waits for something.
const SWEEP_LIMIT: Duration = Duration::from_secs(30);

/// How many rows a pass of `reassign` moves at most; and how many passes one call makes.
const FULL_PASS: i64 = 5_000;
const MOST_PASSES: usize = 200;

impl Store {
    /// The tick, for the whole ledger, at least once a minute: sets a fence, adds partitions, deletes outbox rows of deleted events, and logs events
    /// without a row in the event log.
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

    /// Logs events of the last `hours` without a row in the event log, up to a thousand, and returns how many. Call it sometimes for more than the
    /// ten minutes of [`Store::tick`]. Events from before the first setup stay history.
    ///
    /// Fails with [`StoreError::Config`] if row-level security hides events from this role.
    pub async fn log_what_is_unlogged(&self, hours: u32) -> Result<i64, StoreError> {
        const OP: &str = "log_what_is_unlogged";
        let sql = "select switchyard.unlogged(clock_timestamp() - $1::float8 * interval '1 hour')";
        let rows = self.write(OP, sql, &[(&i64::from(hours), Type::INT8)]).await?;
        get(OP, &only(OP, rows)?, 0)
    }

    /// Creates missing rows for events that are older than the agent's grace, in the next fifty thousand sequences, and reassigns if the agent
    /// drains. Each sweep is kept, so a caller with time calls again while [`Swept::more`] is set.
    ///
    /// Fails with [`StoreError::Conflict`] if a claim held it up, and the next sweep does it; with [`StoreError::Unavailable`] if it took longer
    /// than half a minute.
    pub async fn sweep(&self, agent: &str) -> Result<Swept, StoreError> {
        const OP: &str = "sweep";
        let mut tx = self.begin_within(SWEEP_LIMIT).await?;
        let rows = tx.query("select written, more from switchyard.sweep($1)", &[(&agent, Type::TEXT)]).await?;
        let row = only(OP, rows)?;
        let swept = Swept { written: get(OP, &row, 0)?, more: get(OP, &row, 1)? };
        tx.commit().await?;
        // A standing order to drain is obeyed to its end, in transactions that are short each.
        self.passes(OP, "select moved, complete from switchyard.drain($1)", agent, None).await?;
        Ok(swept)
    }

    /// Leases up to `limit` due deliveries, the longest overdue first, and returns them in the order of the sequence. A lost send is due again when
    /// the lease ends: after the agent's grace the first time, then twice as long for each send without an answer, up to an hour, and up to a fifth
    /// more. After twenty sends without an answer, the delivery is parked as `unanswered`. If its event was deleted, it is settled as expired. A
    /// call that changes something adds an audit row.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered, or if row-level security hides events from this role.
    pub async fn due(&self, agent: &str, limit: i32, overdue: Overdue) -> Result<Vec<Due>, StoreError> {
        const OP: &str = "due";
        let rows = self
            .write(
                OP,
                "select seq, run, epoch, sends from switchyard.due($1, $2, $3::float8 * interval '1 second') order by seq, run",
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

    /// Starts a replay for an agent and returns its run, above 0.
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

    /// Makes these events due again. In run 0 it redrives what is unfinished or parked, and leaves what is settled as it is. In a run above 0 it
    /// adds what is settled in run 0; a second call never repeats a done one. [`Store::due`] then returns them.
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

    /// Ends a run: unfinished and parked deliveries are superseded. Returns how many.
    ///
    /// Fails with [`StoreError::Config`] if there is no such run.
    pub async fn cancel_run(&self, run: i32) -> Result<i64, StoreError> {
        let rows = self.write("cancel_run", "select switchyard.cancel_run($1)", &[(&run, Type::INT4)]).await?;
        get("cancel_run", &only("cancel_run", rows)?, 0)
    }

    /// Gives unfinished and parked live deliveries to the owner that the routing names now, five thousand in a transaction, up to a million in a
    /// call. It skips a row that is being processed; a later call moves it. A delivery that an old system has failed is parked instead, because the
    /// old system may have done half of it.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn reassign(&self, agent: &str) -> Result<Reassigned, StoreError> {
        self.reassign_until(agent, None).await
    }

    /// Like [`Store::reassign`], but begins no transaction after `ends`, except the first one; `None` sets no end.
    ///
    /// Fails as that does.
    pub async fn reassign_until(&self, agent: &str, ends: Option<Instant>) -> Result<Reassigned, StoreError> {
        const OP: &str = "reassign";
        let passes = self.passes(OP, "select moved, complete from switchyard.reassign($1)", agent, ends).await?;
        passes.ok_or_else(|| StoreError::bug(OP, "no row came back"))
    }

    /// Calls passes of `reassign` until one is not full, or the time is up. `None` if the statement returns no row.
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

    /// Drops the oldest partition of the ledger if it is older than 45 days, swept, and without unfinished rows. Its events are too old to run from
    /// then on.
    ///
    /// Fails with [`StoreError::Conflict`] if a claim was under way for longer than other claims may wait: try again later.
    pub async fn drop_oldest(&self) -> Result<Retention, StoreError> {
        let rows = self.write("drop_oldest", "select dropped, kept_because from switchyard.drop_oldest()", &[]).await?;
        let row = only("drop_oldest", rows)?;
        let dropped: Option<String> = get("drop_oldest", &row, 0)?;
        let kept: Option<String> = get("drop_oldest", &row, 1)?;
        Ok(dropped.map_or_else(|| Retention::Kept(kept.unwrap_or_default()), Retention::Dropped))
    }
    /// Deletes failures and audit rows after a year, late messages after 45 days, and idempotency keys after their window: up to ten thousand of
    /// each, once an hour. Returns how many.
    pub async fn prune(&self) -> Result<u64, StoreError> {
        const OP: &str = "prune";
        let rows = self.write(OP, "select switchyard.prune()", &[]).await?;
        let n: i64 = get(OP, &only(OP, rows)?, 0)?;
        Ok(n.unsigned_abs())
    }

    /// Returns whether the hourly check is due. The database records the time, so any process may ask, and of several concurrent callers one gets
    /// `true`. If that one dies, the check waits for the next time.
    pub async fn deeper(&self, every: Duration) -> Result<bool, StoreError> {
        const OP: &str = "deeper";
        let sql = "select switchyard.take_hourly_check($1::float8 * interval '1 second')";
        let rows = self.write(OP, sql, &[(&every.as_secs_f64(), Type::FLOAT8)]).await?;
        get(OP, &only(OP, rows)?, 0)
    }
}
