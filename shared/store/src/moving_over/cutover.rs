//! Cutover plans: an agent's percentage grows step by step while the figures stay inside the limits.
//!
//! The database keeps the plan, and changes it together with the routing in one transaction. The steward decides whether a step is due, from
//! [`Store::cutovers_under_way`] and [`Store::cutover_figures`]. Its order names the step that it has judged, so a late order does nothing. Every
//! change adds an audit row. Times are the database's.

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::row::{clean, get, only, word};
use crate::{Cutover, CutoverLimit, CutoverLimits, CutoverPlan, CutoverState, CutoverStep, Mode, Store, StoreError};

/// The ledger's figures of a plan's present step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CutoverFigures {
    /// How many deliveries that came to the agent since the step began were settled at the first attempt.
    pub settled: u64,
    /// How many of them failed at least once since, or are parked.
    pub failed: u64,
    /// How many seconds the oldest unfinished one has waited since it was logged, was due, or came to the agent. 0 if none waits.
    pub lag_secs: f64,
}

const SQL: &str = "select id, agent, percents, soaks_secs, at_least, max_mismatch, back_at_mismatch, max_failures, back_at_failures, max_lag_secs,
        back_at_lag_secs, state, by_operator, because, step, in_step_secs, step_at, by, at, ended_at, compared_from
   from switchyard.cutovers($1) order by agent";

impl Store {
    /// Starts a plan and sets the routing of its first step.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered, has an unfinished plan, is above the first step already, or has no mapping
    /// for a limit on mismatch; with [`StoreError::Refused`] for a percentage outside 1 to 100.
    pub async fn start_cutover(&self, agent: &str, plan: &CutoverPlan, operator: &str) -> Result<(), StoreError> {
        let percents: Vec<i32> = plan.steps.iter().map(|step| i32::from(step.percent)).collect();
        let soaks: Vec<i64> = plan.steps.iter().map(|step| i64::from(step.soak_secs)).collect();
        let CutoverLimits { mismatch, failures, lag_secs, at_least } = plan.limits;
        self.write(
            "start_cutover",
            "select switchyard.cutover_start($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            &[
                (&agent, Type::TEXT),
                (&percents, Type::INT4_ARRAY),
                (&soaks, Type::INT8_ARRAY),
                (&i32::try_from(at_least).unwrap_or(i32::MAX), Type::INT4),
                (&mismatch.map(|limit| limit.pause), Type::FLOAT8),
                (&mismatch.and_then(|limit| limit.roll_back), Type::FLOAT8),
                (&failures.pause, Type::FLOAT8),
                (&failures.roll_back, Type::FLOAT8),
                (&lag_secs.pause, Type::FLOAT8),
                (&lag_secs.roll_back, Type::FLOAT8),
                (&clean(operator).as_ref(), Type::TEXT),
            ],
        )
        .await?;
        Ok(())
    }

    /// Returns an agent's newest plan.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn cutover(&self, agent: &str) -> Result<Option<Cutover>, StoreError> {
        self.read("cutover", SQL, &[(&agent, Type::TEXT)]).await?.first().map(cutover).transpose()
    }

    /// Returns the plans that are running or paused, by the agent's name.
    pub async fn cutovers_under_way(&self) -> Result<Vec<Cutover>, StoreError> {
        let every: Option<&str> = None;
        self.read("cutovers_under_way", SQL, &[(&every, Type::TEXT)]).await?.iter().map(cutover).collect()
    }

    /// Returns the figures of the present step of an agent's newest plan. The cost grows with what came to the agent since the step began (the
    /// latest million of new and of reassigned ones at most) and with what is unfinished: a second or two for each million.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn cutover_figures(&self, agent: &str) -> Result<CutoverFigures, StoreError> {
        const OP: &str = "cutover_figures";
        let sql = "select settled, failed, lag_secs from switchyard.cutover_figures($1)";
        let row = only(OP, self.read(OP, sql, &[(&agent, Type::TEXT)]).await?)?;
        Ok(CutoverFigures {
            settled: get::<i64>(OP, &row, 0)?.unsigned_abs(),
            failed: get::<i64>(OP, &row, 1)?.unsigned_abs(),
            lag_secs: get(OP, &row, 2)?,
        })
    }

    /// Moves a plan from the step that was judged to the next, or ends it after the last. `figures` are JSON for the audit. Returns `false`, and
    /// changes nothing, if the plan has ended, is paused, or is in another step.
    pub async fn advance_cutover(&self, judged: &Cutover, figures: &str, operator: &str) -> Result<bool, StoreError> {
        let sql = "select switchyard.cutover_advance($1, $2, $3, $4, $5)";
        let step = nth(judged.step);
        let operator = clean(operator);
        let parameters = [
            (&judged.agent as &(dyn ToSql + Sync), Type::TEXT),
            (&judged.id, Type::INT8),
            (&step, Type::INT4),
            (&figures, Type::TEXT),
            (&operator.as_ref(), Type::TEXT),
        ];
        self.judged("advance_cutover", sql, &parameters).await
    }

    /// Pauses a plan at a limit, in the step that was judged. Returns `false` as [`Store::advance_cutover`] does.
    pub async fn pause_cutover_at(
        &self,
        judged: &Cutover,
        because: &str,
        figures: &str,
        operator: &str,
    ) -> Result<bool, StoreError> {
        let sql = "select switchyard.cutover_pause_at($1, $2, $3, $4, $5, $6)";
        self.by_a_limit("pause_cutover_at", sql, judged, because, figures, operator).await
    }

    /// Rolls a plan back at a limit: the old system owns everything from now on, and the agent's unfinished deliveries follow. Returns `false`, and
    /// changes nothing, if the plan has left the step or an operator has paused it.
    pub async fn roll_back_cutover_at(
        &self,
        judged: &Cutover,
        because: &str,
        figures: &str,
        operator: &str,
    ) -> Result<bool, StoreError> {
        let sql = "select switchyard.cutover_roll_back_at($1, $2, $3, $4, $5, $6)";
        self.by_a_limit("roll_back_cutover_at", sql, judged, because, figures, operator).await
    }

    /// Pauses an agent's plan until an operator changes it. The routing stays.
    ///
    /// Fails with [`StoreError::Config`] if the agent has no unfinished plan.
    pub async fn pause_cutover(&self, agent: &str, because: &str, operator: &str) -> Result<(), StoreError> {
        self.by_operator("pause_cutover", "select switchyard.cutover_pause($1, $2, $3)", agent, because, operator).await
    }

    /// Rolls an agent's plan back, also one that is done. As [`Store::roll_back_cutover_at`].
    ///
    /// Fails with [`StoreError::Config`] if the agent has no such plan: then use [`Store::set_routing`].
    pub async fn roll_back_cutover(&self, agent: &str, because: &str, operator: &str) -> Result<(), StoreError> {
        let sql = "select switchyard.cutover_roll_back($1, $2, $3)";
        self.by_operator("roll_back_cutover", sql, agent, because, operator).await
    }

    /// Resumes a paused plan: the routing of its present step is set again, and its soak starts again.
    ///
    /// Fails with [`StoreError::Config`] if the agent has no paused plan.
    pub async fn resume_cutover(&self, agent: &str, operator: &str) -> Result<(), StoreError> {
        let operator = clean(operator);
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&agent, Type::TEXT), (&operator.as_ref(), Type::TEXT)];
        self.write("resume_cutover", "select switchyard.cutover_resume($1, $2)", &parameters).await?;
        Ok(())
    }

    async fn by_operator(
        &self,
        op: &'static str,
        sql: &str,
        agent: &str,
        because: &str,
        operator: &str,
    ) -> Result<(), StoreError> {
        let (because, operator) = (clean(because), clean(operator));
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&agent, Type::TEXT), (&because.as_ref(), Type::TEXT), (&operator.as_ref(), Type::TEXT)];
        self.write(op, sql, &parameters).await?;
        Ok(())
    }

    async fn by_a_limit(
        &self,
        op: &'static str,
        sql: &str,
        judged: &Cutover,
        because: &str,
        figures: &str,
        operator: &str,
    ) -> Result<bool, StoreError> {
        let step = nth(judged.step);
        let (because, operator) = (clean(because), clean(operator));
        let parameters = [
            (&judged.agent as &(dyn ToSql + Sync), Type::TEXT),
            (&judged.id, Type::INT8),
            (&step, Type::INT4),
            (&because.as_ref(), Type::TEXT),
            (&figures, Type::TEXT),
            (&operator.as_ref(), Type::TEXT),
        ];
        self.judged(op, sql, &parameters).await
    }

    async fn judged(
        &self,
        op: &'static str,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<bool, StoreError> {
        get(op, &only(op, self.write(op, sql, parameters).await?)?, 0)
    }
}

/// A step's number in the database, from 1.
fn nth(step: usize) -> i32 {
    i32::try_from(step).unwrap_or(i32::MAX).saturating_add(1)
}

fn cutover(row: &Row) -> Result<Cutover, StoreError> {
    const OP: &str = "cutover";
    let (percents, soaks): (Vec<i32>, Vec<i64>) = (get(OP, row, 2)?, get(OP, row, 3)?);
    let steps = percents.iter().zip(&soaks).map(|(percent, soak)| CutoverStep {
        percent: Mode::Percent(u8::try_from(*percent).unwrap_or(100)).percent(),
        soak_secs: u32::try_from(*soak).unwrap_or(u32::MAX),
    });
    let limit = |pause: Option<f64>, roll_back: Option<f64>| pause.map(|pause| CutoverLimit { pause, roll_back });
    let limits = CutoverLimits {
        at_least: get::<i32>(OP, row, 4)?.unsigned_abs(),
        mismatch: limit(get(OP, row, 5)?, get(OP, row, 6)?),
        failures: CutoverLimit { pause: get(OP, row, 7)?, roll_back: get(OP, row, 8)? },
        lag_secs: CutoverLimit { pause: get(OP, row, 9)?, roll_back: get(OP, row, 10)? },
    };
    Ok(Cutover {
        id: get(OP, row, 0)?,
        agent: get(OP, row, 1)?,
        plan: CutoverPlan { steps: steps.collect(), limits },
        state: word(OP, row, 11, CutoverState::named)?,
        by_operator: get(OP, row, 12)?,
        because: get(OP, row, 13)?,
        step: usize::try_from(get::<i32>(OP, row, 14)? - 1).unwrap_or(0),
        in_step_secs: get(OP, row, 15)?,
        step_at: get(OP, row, 16)?,
        by: get(OP, row, 17)?,
        at: get(OP, row, 18)?,
        ended_at: get(OP, row, 19)?,
        compared_from: get(OP, row, 20)?,
    })
}
