//! What is parked: to look at, to edit, to send back.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::claim::{clean, count, get};
use crate::selection;
use crate::store::only;
use crate::{Selection, Store, StoreError};

/// Parked deliveries of one reason and one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedGroup {
    /// Why they are parked.
    pub reason: String,
    /// The events' type; `None` for bodies that are no events, or events that are not in the table.
    pub event_type: Option<String>,
    /// How many.
    pub count: i64,
    /// When the first of them was parked: RFC 3339.
    pub oldest: String,
    /// When the last of them was parked: RFC 3339.
    pub newest: String,
    /// What the last of them says.
    pub error: Option<String>,
    /// The last three events.
    pub examples: Vec<Uuid>,
}

/// One parked delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedDelivery {
    /// The event's place in the event log.
    pub seq: i64,
    /// 0, or a replay.
    pub run: i32,
    /// The event.
    pub event_id: Uuid,
    /// Such as `feedback.created`.
    pub event_type: String,
    /// What it happened to.
    pub aggregate_id: String,
    /// Its project.
    pub project_id: Option<String>,
    /// Why it is parked.
    pub reason: String,
    /// What the last attempt says.
    pub error: Option<String>,
    /// How many attempts it had.
    pub attempts: u16,
    /// How often it was sent back before.
    pub redrives: u16,
    /// When it was parked: RFC 3339.
    pub parked_at: String,
}

/// When parked deliveries go back by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoRedrive {
    /// How often for one delivery, 1 to 100; what people have sent back counts too.
    pub times: u16,
    /// How long after it was parked the first time, in seconds; each further wait is twice as long.
    pub first_after_secs: u32,
}

/// How many deliveries go back in one transaction: claims of the same batch wait for it, so it should not be a long one.
const STEP: i64 = 10_000;

impl Store {
    /// What is parked for an agent, by reason and type, the most first: deliveries that are the agent's, and what only the dead-letter
    /// queue has (no event, an event that is not in the table), as long as it was not sent back. A name that is not registered has
    /// nothing of the first kind.
    ///
    /// Fails with [`StoreError::Config`] for a time that is none.
    pub async fn parked(&self, agent: &str, selection: &Selection) -> Result<Vec<ParkedGroup>, StoreError> {
        const OP: &str = "parked";
        let sql = format!(
            "select reason, type, n, switchyard.rfc3339(oldest), switchyard.rfc3339(newest), error, examples
               from switchyard.parked($1, {})",
            selection::SQL
        );
        let columns = selection.columns();
        let rows = self.read(OP, &sql, &columns.parameters(&agent)).await?;
        rows.iter()
            .map(|row| {
                Ok(ParkedGroup {
                    reason: get(OP, row, 0)?,
                    event_type: get(OP, row, 1)?,
                    count: get(OP, row, 2)?,
                    oldest: get(OP, row, 3)?,
                    newest: get(OP, row, 4)?,
                    error: get(OP, row, 5)?,
                    examples: get(OP, row, 6)?,
                })
            })
            .collect()
    }

    /// The parked deliveries themselves, the lowest sequences first. All of them, unless the selection says how many.
    ///
    /// Fails with [`StoreError::Config`] for a time that is none.
    pub async fn parked_deliveries(
        &self,
        agent: &str,
        selection: &Selection,
    ) -> Result<Vec<ParkedDelivery>, StoreError> {
        const OP: &str = "parked_deliveries";
        let sql = format!(
            "select p.seq, p.run, p.event_id, p.type, p.aggregate_id, p.project_id, p.reason,
                    (select f.error from switchyard.failure f
                      where f.event_id = p.event_id and f.agent = $1 and f.run = p.run and f.parked order by f.id desc limit 1),
                    p.attempts, p.redrives, switchyard.rfc3339(p.at)
               from switchyard.parked_deliveries($1, {}) p order by p.seq, p.run",
            selection::SQL
        );
        let columns = selection.columns();
        let rows = self.read(OP, &sql, &columns.parameters(&agent)).await?;
        rows.iter()
            .map(|row| {
                Ok(ParkedDelivery {
                    seq: get(OP, row, 0)?,
                    run: get(OP, row, 1)?,
                    event_id: get(OP, row, 2)?,
                    event_type: get(OP, row, 3)?,
                    aggregate_id: get(OP, row, 4)?,
                    project_id: get(OP, row, 5)?,
                    reason: get(OP, row, 6)?,
                    error: get(OP, row, 7)?,
                    attempts: count(get(OP, row, 8)?),
                    redrives: count(get(OP, row, 9)?),
                    parked_at: get(OP, row, 10)?,
                })
            })
            .collect()
    }

    /// Sends parked deliveries back: assigned again, of the next epoch, with attempts counted anew. Returns the sequences of those that
    /// this call has sent back. Leaves alone what is not parked, so it may be repeated, and run twice at once: each row goes back once.
    /// Ten thousand in a transaction, each with an audit row: after a crash in the middle, repeat it.
    ///
    /// `hold_secs` above nought: somebody else (a move of the whole dead-letter queue) brings the messages, and [`Store::due`] sends from
    /// the table only what is unanswered after so long. Then, and where the selection does not say how many, what only the queue has
    /// counts as sent back too.
    ///
    /// Fails with [`StoreError::Config`] for a time that is none; with any other error some may have gone back.
    pub async fn redrive(
        &self,
        agent: &str,
        selection: &Selection,
        hold_secs: u32,
        operator: &str,
        reason: &str,
    ) -> Result<Vec<i64>, StoreError> {
        const OP: &str = "redrive";
        let sql = format!(
            "select seq, run, redriven
               from switchyard.redrive($1, {}, $9, $10, $11 * interval '1 second', $12, $13) order by seq, run",
            selection::SQL
        );
        let (operator, reason) = (clean(operator), clean(reason));
        let hold = i64::from(hold_secs);
        let mut columns = selection.columns();
        let mut left = selection.at_most.unwrap_or(i64::MAX);
        let mut redriven: Vec<i64> = Vec::new();
        let (mut after_seq, mut after_run) = (0_i64, 0_i32);
        while left > 0 {
            let step = left.min(STEP);
            columns.at_most = Some(step);
            let mut parameters = columns.parameters(&agent);
            parameters.extend([
                (&after_seq as _, Type::INT8),
                (&after_run as _, Type::INT4),
                (&hold as _, Type::INT8),
                (&operator as _, Type::TEXT),
                (&reason as _, Type::TEXT),
            ]);
            let rows = self.write(OP, &sql, &parameters).await?;
            for row in &rows {
                (after_seq, after_run) = (get(OP, row, 0)?, get(OP, row, 1)?);
                if get(OP, row, 2)? {
                    redriven.push(after_seq);
                }
            }
            let seen = i64::try_from(rows.len()).unwrap_or(step);
            if seen < step {
                break;
            }
            left -= seen;
        }
        // A delivery and a replay of it have one sequence.
        redriven.dedup();
        if hold_secs > 0 && selection.at_most.is_none() {
            columns.at_most = None;
            let sql = format!("select switchyard.redrive_loose($1, {}, $9, $10)", selection::SQL);
            let mut parameters = columns.parameters(&agent);
            parameters.extend([(&operator as _, Type::TEXT), (&reason as _, Type::TEXT)]);
            self.write(OP, &sql, &parameters).await?;
        }
        Ok(redriven)
    }

    /// Replaces an event's payload, for whoever reads it from now on: [`Store::events`], [`Store::payloads`], and so every message that
    /// is sent. The row in `events` stays as it was. Returns the number of the revision, 1 for the first. Audited, without the payload.
    ///
    /// Fails with [`StoreError::Config`], in words, for what is no JSON or holds a NUL, and for an event that is not in the log.
    pub async fn revise(&self, event_id: Uuid, payload: &str, operator: &str, reason: &str) -> Result<i32, StoreError> {
        const OP: &str = "revise";
        if payload.contains('\0') {
            return Err(StoreError::config("the payload holds a NUL, which the table cannot hold"));
        }
        let rows = self
            .write(
                OP,
                "select switchyard.revise($1, $2, $3, $4)",
                &[
                    (&event_id, Type::UUID),
                    (&payload, Type::TEXT),
                    (&clean(operator).as_ref(), Type::TEXT),
                    (&clean(reason).as_ref(), Type::TEXT),
                ],
            )
            .await?;
        get(OP, &only(OP, rows)?, 0)
    }

    /// Sets when an agent's parked deliveries go back by themselves; `None`: never, as at first. Audited.
    ///
    /// Fails with [`StoreError::Config`] where the agent is not registered, with [`StoreError::Refused`] for `times` outside 1 to 100 or no
    /// wait at all.
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
            "select switchyard.set_auto_redrive($1, $2, $3 * interval '1 second', $4)",
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

    /// Sends back what is parked because attempts, answers or processes ran out (`attempts_used_up`, `unanswered`, `process_died`), was sent
    /// back less often than [`AutoRedrive::times`], and has waited long enough; up to a hundred a call. Returns their sequences, for
    /// [`Store::due`] to hand out. Audited.
    ///
    /// Fails with [`StoreError::Config`] where the agent is not registered.
    pub async fn auto_redrive(&self, agent: &str) -> Result<Vec<i64>, StoreError> {
        const OP: &str = "auto_redrive";
        let rows = self.write(OP, "select * from switchyard.auto_redrive($1)", &[(&agent, Type::TEXT)]).await?;
        rows.iter().map(|row| get(OP, row, 0)).collect()
    }
}
