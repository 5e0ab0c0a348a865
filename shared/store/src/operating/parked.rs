//! Parked deliveries: by group, by page, and counted.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::operating::selection;
use crate::row::{count, get, only};
use crate::{ParkedGroup, Selection, Store, StoreError};

/// One parked delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedDelivery {
    /// The event's place in the event log.
    pub seq: i64,
    /// 0, or a backfill or a replay.
    pub run: i32,
    /// The event.
    pub event_id: Uuid,
    /// Such as `feedback.created`.
    pub event_type: String,
    /// The aggregate's id.
    pub aggregate_id: String,
    /// Its project.
    pub project_id: Option<String>,
    /// Why it is parked.
    pub reason: String,
    /// The error of the last attempt.
    pub error: Option<String>,
    /// How many attempts it had.
    pub attempts: u16,
    /// How often it was sent back before.
    pub redrives: u16,
    /// When it was parked: RFC 3339.
    pub parked_at: String,
}

impl Store {
    /// Returns what is parked for an agent, by reason and type, the largest group first: the agent's deliveries, and unmatched dead letters (no
    /// event, or an event that is not in the table) that were not sent back. A name that is not registered has only the latter.
    ///
    /// Fails with [`StoreError::Config`] for an invalid time.
    pub async fn parked(&self, agent: &str, selection: &Selection) -> Result<Vec<ParkedGroup>, StoreError> {
        const OP: &str = "parked";
        let sql = format!(
            "select reason, type, n, switchyard.rfc3339(oldest), switchyard.rfc3339(newest), error, examples
               from switchyard.parked($1, {})",
            selection::SQL
        );
        let columns = selection::columns(selection);
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

    /// Returns parked deliveries in the order of (sequence, run): up to `limit` of them after `after`, the last one of the page before. A page that
    /// is not full is the last. The selection's own number limits each page too, so a caller that reads several pages counts.
    ///
    /// Fails with [`StoreError::Config`] for an invalid time.
    pub async fn parked_deliveries(
        &self,
        agent: &str,
        selection: &Selection,
        after: Option<(i64, i32)>,
        limit: i64,
    ) -> Result<Vec<ParkedDelivery>, StoreError> {
        const OP: &str = "parked_deliveries";
        let sql = format!(
            "select p.seq, p.run, p.event_id, p.type, p.aggregate_id, p.project_id, p.reason,
                    switchyard.parked_error($1, p.event_id, p.run),
                    p.attempts, p.redrives, switchyard.rfc3339(p.at)
               from switchyard.parked_deliveries($1, {}, $9, $10) p order by p.seq, p.run",
            selection::SQL
        );
        let mut columns = selection::columns(selection);
        columns.at_most = Some(selection.at_most.map_or(limit, |n| n.min(limit)).max(0));
        let (after_seq, after_run) = after.unwrap_or((i64::MIN, 0));
        let mut parameters = columns.parameters(&agent);
        parameters.extend([(&after_seq as _, Type::INT8), (&after_run as _, Type::INT4)]);
        let rows = self.read(OP, &sql, &parameters).await?;
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

    /// Returns how many parked deliveries the selection matches, up to its own number: what a redrive of it would send back now.
    ///
    /// Fails with [`StoreError::Config`] for an invalid time.
    pub async fn parked_count(&self, agent: &str, selection: &Selection) -> Result<i64, StoreError> {
        const OP: &str = "parked_count";
        let sql = format!("select count(*) from switchyard.parked_deliveries($1, {})", selection::SQL);
        let columns = selection::columns(selection);
        let rows = self.read(OP, &sql, &columns.parameters(&agent)).await?;
        get(OP, &only(OP, rows)?, 0)
    }
}
