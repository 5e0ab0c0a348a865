//! Parked deliveries: sent back by an operator or automatically, or dismissed.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::operating::selection;
use crate::row::{clean, get, only};
use crate::{Selection, Store, StoreError};

/// The setting of the automatic redrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoRedrive {
    /// How often for one delivery, 1 to 100. An operator's redrives count too.
    pub times: u16,
    /// The wait after it was parked for the first time, in seconds; each further wait is twice as long.
    pub first_after_secs: u32,
}

/// What was done of a selection in the available time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// The sequences of the deliveries that this call has changed.
    pub seqs: Vec<i64>,
    /// Whether that was all of the selection. If not, the rest is unchanged: repeat the call.
    pub complete: bool,
}

/// How many deliveries go back in one transaction: claims of the same deliveries wait for it.
const STEP: i64 = 10_000;

impl Store {
    /// Sends parked deliveries back: assigned, in the next epoch, with no attempts. Returns the sequences of those that this call sent back. It
    /// leaves what is not parked, so it may be repeated or run twice at once: each row goes back once. It does ten thousand in a transaction, each
    /// with an audit row; after a crash, repeat it.
    ///
    /// If `defer_secs` is above 0, the caller moves the messages of the dead-letter queue, and [`Store::due`] sends from the table only what is
    /// unanswered after this time. Mark unmatched dead letters with [`Store::sent_back`] or [`Store::everything_sent_back`] when they have gone.
    ///
    /// Fails with [`StoreError::Config`] for an invalid time; after any other error some may have gone back.
    pub async fn redrive(
        &self,
        agent: &str,
        selection: &Selection,
        defer_secs: u32,
        operator: &str,
        reason: &str,
    ) -> Result<Vec<i64>, StoreError> {
        let redriven = self.redrive_steps(agent, selection, defer_secs, operator, reason, None).await?;
        Ok(redriven.seqs)
    }

    /// The same for a caller with a deadline: begins no transaction after `ends`, and returns whether it finished the selection.
    pub async fn redrive_until(
        &self,
        agent: &str,
        selection: &Selection,
        defer_secs: u32,
        operator: &str,
        reason: &str,
        ends: Instant,
    ) -> Result<Stepped, StoreError> {
        self.redrive_steps(agent, selection, defer_secs, operator, reason, Some(ends)).await
    }

    async fn redrive_steps(
        &self,
        agent: &str,
        selection: &Selection,
        defer_secs: u32,
        operator: &str,
        reason: &str,
        ends: Option<Instant>,
    ) -> Result<Stepped, StoreError> {
        let sql = format!(
            "select seq, run, redriven
               from switchyard.redrive($1, {}, $9, $10, $13::float8 * interval '1 second', $11, $12) order by seq, run",
            selection::SQL
        );
        let hold = Some(defer_secs);
        let mut redriven = self.by_steps("redrive", &sql, agent, selection, operator, reason, hold, ends).await?;
        // A delivery and a replay of it have one sequence.
        redriven.seqs.dedup();
        Ok(redriven)
    }

    /// The same for these deliveries (event, run), in one transaction. Returns those that this call sent back.
    pub async fn redrive_these(
        &self,
        agent: &str,
        deliveries: &[(Uuid, i32)],
        defer_secs: u32,
        operator: &str,
        because: &str,
    ) -> Result<Vec<(Uuid, i32)>, StoreError> {
        const OP: &str = "redrive_these";
        if deliveries.is_empty() {
            return Ok(Vec::new());
        }
        let (events, runs): (Vec<Uuid>, Vec<i32>) = deliveries.iter().copied().unzip();
        let rows = self
            .write(
                OP,
                "select event_id, run from switchyard.redrive_these($1, $2, $3, $4::float8 * interval '1 second', $5, $6)",
                &[
                    (&agent, Type::TEXT),
                    (&events, Type::UUID_ARRAY),
                    (&runs, Type::INT4_ARRAY),
                    (&i64::from(defer_secs), Type::INT8),
                    (&clean(operator).as_ref(), Type::TEXT),
                    (&clean(because).as_ref(), Type::TEXT),
                ],
            )
            .await?;
        rows.iter().map(|row| Ok((get(OP, row, 0)?, get(OP, row, 1)?))).collect()
    }

    /// Marks unmatched dead letters as sent to the agent's queue, by their event or the queue's id of the message. They leave the list of parked
    /// ones until they fail again. Marks only what is named. Returns how many rows. Audited.
    pub async fn sent_back(
        &self,
        agent: &str,
        events: &[Uuid],
        messages: &[String],
        operator: &str,
    ) -> Result<u64, StoreError> {
        if events.is_empty() && messages.is_empty() {
            return Ok(0);
        }
        let messages: Vec<String> = messages.iter().map(|m| clean(m).into_owned()).collect();
        self.unmatched_sent_back(agent, Some(events), Some(&messages), Duration::ZERO, operator).await
    }

    /// The same for all that the dead-letter queue held that long ago, for a move of the whole queue. Call it after the move has started: before, it
    /// would hide messages that are never moved. What was parked since stays listed.
    pub async fn everything_sent_back(&self, agent: &str, ago: Duration, operator: &str) -> Result<u64, StoreError> {
        self.unmatched_sent_back(agent, None, None, ago, operator).await
    }

    async fn unmatched_sent_back(
        &self,
        agent: &str,
        events: Option<&[Uuid]>,
        messages: Option<&[String]>,
        ago: Duration,
        operator: &str,
    ) -> Result<u64, StoreError> {
        const OP: &str = "sent_back";
        let rows = self
            .write(
                OP,
                "select switchyard.sent_back($1, $2, $3, clock_timestamp() - $4::float8 * interval '1 second', $5)",
                &[
                    (&agent, Type::TEXT),
                    (&events, Type::UUID_ARRAY),
                    (&messages, Type::TEXT_ARRAY),
                    (&ago.as_secs_f64(), Type::FLOAT8),
                    (&clean(operator).as_ref(), Type::TEXT),
                ],
            )
            .await?;
        let n: i64 = get(OP, &only(OP, rows)?, 0)?;
        Ok(n.unsigned_abs())
    }

    /// Settles parked deliveries as expired, with the reason `dismissed`. That is final, and retention no longer waits for them. Returns how many.
    /// It does not touch their dead letters: one that is moved back finds its delivery settled. It does ten thousand in a transaction, each with an
    /// audit row.
    ///
    /// Fails with [`StoreError::Config`] for an invalid time; after any other error some may be dismissed.
    pub async fn dismiss(
        &self,
        agent: &str,
        selection: &Selection,
        operator: &str,
        because: &str,
    ) -> Result<u64, StoreError> {
        let dismissed = self.dismiss_steps(agent, selection, operator, because, None).await?;
        Ok(dismissed.seqs.len() as u64)
    }

    /// The same for a caller with a deadline: begins no transaction after `ends`, and returns whether it finished the selection.
    pub async fn dismiss_until(
        &self,
        agent: &str,
        selection: &Selection,
        operator: &str,
        because: &str,
        ends: Instant,
    ) -> Result<Stepped, StoreError> {
        self.dismiss_steps(agent, selection, operator, because, Some(ends)).await
    }

    async fn dismiss_steps(
        &self,
        agent: &str,
        selection: &Selection,
        operator: &str,
        because: &str,
        ends: Option<Instant>,
    ) -> Result<Stepped, StoreError> {
        let sql = format!(
            "select seq, run, dismissed from switchyard.dismiss($1, {}, $9, $10, $11, $12) order by seq, run",
            selection::SQL
        );
        self.by_steps("dismiss", &sql, agent, selection, operator, because, None, ends).await
    }

    /// Works through a selection, [`STEP`] deliveries in a transaction. The statement takes the position as $9 and $10, operator and reason as $11
    /// and $12, and a defer time as $13 if there is one. It returns (sequence, run, whether it was done). Returns the sequences of those that were
    /// done, and whether it reached the end of the selection in time.
    #[allow(clippy::too_many_arguments)] // The two that share it differ in the statement and the hold.
    async fn by_steps(
        &self,
        op: &'static str,
        sql: &str,
        agent: &str,
        selection: &Selection,
        operator: &str,
        reason: &str,
        defer_secs: Option<u32>,
        ends: Option<Instant>,
    ) -> Result<Stepped, StoreError> {
        let (operator, reason) = (clean(operator), clean(reason));
        let hold = defer_secs.map(i64::from);
        let mut columns = selection::columns(selection);
        let mut left = selection.at_most.unwrap_or(i64::MAX);
        let mut seqs: Vec<i64> = Vec::new();
        let (mut after_seq, mut after_run) = (i64::MIN, 0_i32);
        while left > 0 {
            if ends.is_some_and(|ends| Instant::now() >= ends) {
                return Ok(Stepped { seqs, complete: false });
            }
            let step = left.min(STEP);
            columns.at_most = Some(step);
            let mut parameters = columns.parameters(&agent);
            parameters.extend([
                (&after_seq as _, Type::INT8),
                (&after_run as _, Type::INT4),
                (&operator as _, Type::TEXT),
                (&reason as _, Type::TEXT),
            ]);
            if hold.is_some() {
                parameters.push((&hold as _, Type::INT8));
            }
            let rows = self.write(op, sql, &parameters).await?;
            for row in &rows {
                (after_seq, after_run) = (get(op, row, 0)?, get(op, row, 1)?);
                if get(op, row, 2)? {
                    seqs.push(after_seq);
                }
            }
            let seen = i64::try_from(rows.len()).unwrap_or(step);
            if seen < step {
                break;
            }
            left -= seen;
        }
        Ok(Stepped { seqs, complete: true })
    }

    /// Sets an agent's automatic redrive; `None`, the default, turns it off. Audited.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered, with [`StoreError::Refused`] if `times` is outside 1 to 100 or the wait is
    /// 0.
    pub async fn set_auto_redrive(
        &self,
        agent: &str,
        auto: Option<AutoRedrive>,
        operator: &str,
    ) -> Result<(), StoreError> {
        let times = auto.map(|a| i32::from(a.times));
        let after = auto.map(|a| i64::from(a.first_after_secs));
        self.write(
            "set_auto_redrive",
            "select switchyard.set_auto_redrive($1, $2, $3::float8 * interval '1 second', $4)",
            &[
                (&agent, Type::TEXT),
                (&times, Type::INT4),
                (&after, Type::INT8),
                (&clean(operator).as_ref(), Type::TEXT),
            ],
        )
        .await?;
        Ok(())
    }

    /// Sends back deliveries that were parked for `attempts_used_up`, `unanswered` or `process_died`, were sent back less often than
    /// [`AutoRedrive::times`], and have waited long enough; up to a hundred a call. Returns their sequences, for [`Store::due`]. Audited.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn auto_redrive(&self, agent: &str) -> Result<Vec<i64>, StoreError> {
        const OP: &str = "auto_redrive";
        let rows = self.write(OP, "select * from switchyard.auto_redrive($1)", &[(&agent, Type::TEXT)]).await?;
        rows.iter().map(|row| get(OP, row, 0)).collect()
    }
}
