//! Backfills: events from before an agent subscribed become deliveries of a run of their own, at a limited rate.
//!
//! The database stores the progress of each. Every step is one short transaction that writes its rows together with the progress. The steward
//! decides when a step may be taken, because the database alone does not know whether live traffic leaves room for it.

use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::row::{clean, get, only, word};
use crate::{
    BackfillPhase, BackfillPreview, BackfillProgress, BackfillSelection, BackfillState, BreakerState, Due, Store,
    StoreError,
};

/// A running backfill, and what decides whether it may take the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackfillNow {
    /// The agent.
    pub agent: String,
    /// What it does now.
    pub phase: BackfillPhase,
    /// Its rate.
    pub per_second: u32,
    /// Whether the agent owns anything by its routing now. If not, the backfill takes nothing.
    pub owns: bool,
    /// The agent's breaker.
    pub breaker: BreakerState,
    /// How many of its deliveries are unfinished, counted up to 10,000.
    pub unfinished: u32,
    /// How many more its rate allows now.
    pub allowance: u32,
    /// How many events wait to be published, of all publishers, counted up to 10,000.
    pub unpublished: u32,
}

/// The result of [`Store::prepare_backfill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The next phase.
    pub phase: BackfillPhase,
    /// Whether the step advanced. If not, it waits for a transaction that may still commit events.
    pub further: bool,
}

/// The result of [`Store::take_backfill`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The deliveries to send now. They are leased: one that is not sent is due when the lease ends.
    pub due: Vec<Due>,
    /// The state after it.
    pub state: BackfillState,
    /// Whether it advanced in the event log, also past events that it does not select.
    pub further: bool,
}

/// A window takes a tenth of a second; one that takes this long waits for something, and the next pass tries again.
const WINDOW_LIMIT: Duration = Duration::from_secs(10);
/// Counting millions of events takes seconds. For more, the operator asks for smaller parts.
const PREVIEW_LIMIT: Duration = Duration::from_secs(30);

impl Store {
    /// Starts a backfill of an agent and returns its run. Sends nothing.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered, does not subscribe to one of the types, owns nothing by its routing, or has
    /// a running backfill; if a time is invalid; if history has no order (no time of creation) or needs an index first
    /// ([`index_history`](crate::index_history)); if row-level security hides events from this role.
    pub async fn start_backfill(
        &self,
        agent: &str,
        selection: &BackfillSelection,
        per_second: u16,
        operator: &str,
    ) -> Result<i32, StoreError> {
        const OP: &str = "start_backfill";
        let columns = Columns::of(selection);
        let sql = format!("select switchyard.start_backfill($1, {SELECTION}, $6, $7)");
        let mut parameters = columns.parameters(&agent);
        let (rate, operator) = (i32::from(per_second), clean(operator));
        parameters.extend([(&rate as _, Type::INT4), (&operator as _, Type::TEXT)]);
        let rows = self.write(OP, &sql, &parameters).await?;
        get(OP, &only(OP, rows)?, 0)
    }

    /// Returns what a backfill of the selection would take, by type, the largest number first. Changes nothing, and reads the whole selection once.
    ///
    /// Fails as [`Store::start_backfill`] for a wrong type or time, and with [`StoreError::Unavailable`] if half a minute was too short.
    pub async fn preview_backfill(
        &self,
        agent: &str,
        selection: &BackfillSelection,
    ) -> Result<Vec<BackfillPreview>, StoreError> {
        const OP: &str = "preview_backfill";
        let columns = Columns::of(selection);
        let sql = format!("select type, n, oldest, newest from switchyard.preview_backfill($1, {SELECTION})");
        let mut tx = self.begin_within(PREVIEW_LIMIT).await?;
        let rows = tx.query(&sql, &columns.parameters(&agent)).await?;
        tx.commit().await?;
        rows.iter()
            .map(|row| {
                Ok(BackfillPreview {
                    event_type: get(OP, row, 0)?,
                    events: get(OP, row, 1)?,
                    oldest: get(OP, row, 2)?,
                    newest: get(OP, row, 3)?,
                })
            })
            .collect()
    }

    /// Returns the running backfills, by agent.
    pub async fn backfills_running(&self) -> Result<Vec<BackfillNow>, StoreError> {
        self.running(&None).await
    }

    /// The same for one agent; `None` if it has no running backfill.
    pub async fn backfill_now(&self, agent: &str) -> Result<Option<BackfillNow>, StoreError> {
        Ok(self.running(&Some(agent)).await?.pop())
    }

    async fn running(&self, agent: &Option<&str>) -> Result<Vec<BackfillNow>, StoreError> {
        const OP: &str = "backfills_running";
        let sql = "select agent, phase, per_second, owns, breaker, unfinished, allowance, unpublished
                     from switchyard.backfills_running($1)";
        let rows = self.read(OP, sql, &[(agent, Type::TEXT)]).await?;
        rows.iter()
            .map(|row| {
                Ok(BackfillNow {
                    agent: get(OP, row, 0)?,
                    phase: word(OP, row, 1, BackfillPhase::named)?,
                    per_second: number(OP, row, 2)?,
                    owns: get(OP, row, 3)?,
                    breaker: word(OP, row, 4, BreakerState::named)?,
                    unfinished: number(OP, row, 5)?,
                    allowance: number(OP, row, 6)?,
                    unpublished: number(OP, row, 7)?,
                })
            })
            .collect()
    }

    /// Takes one step of the preparation: numbers five thousand events, or counts fifty thousand rows of the event log.
    ///
    /// Fails with [`StoreError::Config`] if the agent has no running backfill, [`StoreError::Unavailable`] if a step took longer than ten seconds.
    pub async fn prepare_backfill(&self, agent: &str) -> Result<Prepared, StoreError> {
        const OP: &str = "prepare_backfill";
        let mut tx = self.begin_within(WINDOW_LIMIT).await?;
        let sql = "select phase, further from switchyard.prepare_backfill($1)";
        let row = only(OP, tx.query(sql, &[(&agent, Type::TEXT)]).await?)?;
        let prepared = Prepared { phase: word(OP, &row, 0, BackfillPhase::named)?, further: get(OP, &row, 1)? };
        tx.commit().await?;
        Ok(prepared)
    }

    /// Takes the next deliveries of a backfill, in the order of their sequences: at most `limit`, no more than its rate allows, and only until
    /// `unfinished` of it are unfinished. One transaction writes the rows and the progress; the caller sends afterwards.
    ///
    /// Fails as [`Store::prepare_backfill`].
    pub async fn take_backfill(&self, agent: &str, limit: u32, unfinished: u32) -> Result<Taken, StoreError> {
        const OP: &str = "take_backfill";
        let whole = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let mut tx = self.begin_within(WINDOW_LIMIT).await?;
        let sql = "select run, seqs, state, further from switchyard.take_backfill($1, $2, $3)";
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&agent, Type::TEXT), (&whole(limit), Type::INT4), (&whole(unfinished), Type::INT4)];
        let row = only(OP, tx.query(sql, &parameters).await?)?;
        let (run, seqs): (i32, Vec<i64>) = (get(OP, &row, 0)?, get(OP, &row, 1)?);
        let due = seqs.into_iter().map(|seq| Due { seq, run, epoch: 0, sends: 1 }).collect();
        let taken = Taken { due, state: word(OP, &row, 2, BackfillState::named)?, further: get(OP, &row, 3)? };
        tx.commit().await?;
        Ok(taken)
    }

    /// Stores why a running backfill does not advance; `None` if it does.
    pub async fn backfill_waits(&self, agent: &str, why: Option<&str>) -> Result<(), StoreError> {
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&agent, Type::TEXT), (&why, Type::TEXT)];
        self.write("backfill_waits", "select switchyard.backfill_waits($1, $2)", &parameters).await?;
        Ok(())
    }

    /// Pauses a backfill until [`Store::resume_backfill`]: agents finish what was taken, and nothing more is taken.
    ///
    /// Fails with [`StoreError::Config`] if the agent has no running or paused backfill.
    pub async fn pause_backfill(&self, agent: &str, operator: &str) -> Result<(), StoreError> {
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&agent, Type::TEXT), (&clean(operator), Type::TEXT)];
        self.write("pause_backfill", "select switchyard.pause_backfill($1, $2)", &parameters).await?;
        Ok(())
    }

    /// Resumes a backfill, at another rate if one is given. For a running one only the rate changes.
    ///
    /// Fails with [`StoreError::Config`] if the agent has no running or paused backfill.
    pub async fn resume_backfill(
        &self,
        agent: &str,
        per_second: Option<u16>,
        operator: &str,
    ) -> Result<(), StoreError> {
        let rate = per_second.map(i32::from);
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&agent, Type::TEXT), (&rate, Type::INT4), (&clean(operator), Type::TEXT)];
        self.write("resume_backfill", "select switchyard.resume_backfill($1, $2, $3)", &parameters).await?;
        Ok(())
    }

    /// Cancels a backfill: unfinished and parked deliveries are superseded, done ones stay done. Returns how many were superseded. Another backfill
    /// takes what this one has not done.
    ///
    /// Fails with [`StoreError::Config`] if the agent has no running or paused backfill.
    pub async fn cancel_backfill(&self, agent: &str, operator: &str) -> Result<i64, StoreError> {
        const OP: &str = "cancel_backfill";
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&agent, Type::TEXT), (&clean(operator), Type::TEXT)];
        let rows = self.write(OP, "select switchyard.cancel_backfill($1, $2)", &parameters).await?;
        get(OP, &only(OP, rows)?, 0)
    }

    /// Returns the progress of the agent's newest backfill; `None` if it never had one.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn backfill_progress(&self, agent: &str) -> Result<Option<BackfillProgress>, StoreError> {
        const OP: &str = "backfill_progress";
        let sql = "select run, state, phase, waits, per_second, types, projects, since, until, numbered, selected, left_out, taken,
                          pending, parked, superseded, expired, pace, ends_at, started_at, ended_at
                     from switchyard.backfill_progress($1)";
        let rows = self.read(OP, sql, &[(&agent, Type::TEXT)]).await?;
        rows.first().map(|row| progress(OP, row)).transpose()
    }
}

fn progress(op: &'static str, row: &Row) -> Result<BackfillProgress, StoreError> {
    let (taken, pending, parked): (i64, i64, i64) = (get(op, row, 12)?, get(op, row, 13)?, get(op, row, 14)?);
    let (superseded, expired): (i64, i64) = (get(op, row, 15)?, get(op, row, 16)?);
    Ok(BackfillProgress {
        run: get(op, row, 0)?,
        state: word(op, row, 1, BackfillState::named)?,
        phase: word(op, row, 2, BackfillPhase::named)?,
        waits: get(op, row, 3)?,
        per_second: number(op, row, 4)?,
        types: get(op, row, 5)?,
        projects: get(op, row, 6)?,
        since: get(op, row, 7)?,
        until: get(op, row, 8)?,
        numbered: get(op, row, 9)?,
        selected: get(op, row, 10)?,
        left_out: get(op, row, 11)?,
        taken,
        done: taken - pending - parked - superseded - expired,
        pending,
        parked,
        superseded,
        expired,
        pace: get(op, row, 17)?,
        ends_at: get(op, row, 18)?,
        started_at: get(op, row, 19)?,
        ended_at: get(op, row, 20)?,
    })
}

/// Types, projects and times of the parameters $2 to $5.
const SELECTION: &str =
    "$2, $3, switchyard.time_given('since', $4), coalesce(switchyard.time_given('until', $5), now())";

/// One value for each field, so that it can be bound; text is without NUL.
struct Columns {
    types: Vec<String>,
    projects: Vec<String>,
    since: String,
    until: Option<String>,
}

impl Columns {
    fn of(selection: &BackfillSelection) -> Self {
        let cleaned = |texts: &[String]| texts.iter().map(|text| clean(text).into_owned()).collect();
        Self {
            types: cleaned(&selection.types),
            projects: cleaned(&selection.projects),
            since: clean(&selection.since).into_owned(),
            until: selection.until.as_deref().map(|text| clean(text).into_owned()),
        }
    }

    fn parameters<'p>(&'p self, agent: &'p &'p str) -> Vec<(&'p (dyn ToSql + Sync), Type)> {
        vec![
            (agent, Type::TEXT),
            (&self.types, Type::TEXT_ARRAY),
            (&self.projects, Type::TEXT_ARRAY),
            (&self.since, Type::TEXT),
            (&self.until, Type::TEXT),
        ]
    }
}

fn number(operation: &'static str, row: &Row, column: usize) -> Result<u32, StoreError> {
    let n: i32 = get(operation, row, column)?;
    Ok(n.max(0).unsigned_abs())
}
