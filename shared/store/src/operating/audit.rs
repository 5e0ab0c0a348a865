//! Failures and the audit, for operators.

use tokio_postgres::types::Type;

use crate::row::{clean, get};
use crate::{AuditRow, FailureRow, Store, StoreError};

impl Store {
    /// An agent's newest failures, newest first.
    pub async fn failures(&self, agent: &str, limit: i64) -> Result<Vec<FailureRow>, StoreError> {
        const OP: &str = "failures";
        let rows = self
            .read(
                OP,
                "select id, at, event_id, message_id, run, seq, attempt, parked, reason, error from switchyard.failures($1, $2)",
                &[(&agent, Type::TEXT), (&limit.max(0), Type::INT8)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(FailureRow {
                    id: get(OP, row, 0)?,
                    at: get(OP, row, 1)?,
                    event_id: get(OP, row, 2)?,
                    message_id: get(OP, row, 3)?,
                    run: get(OP, row, 4)?,
                    seq: get(OP, row, 5)?,
                    attempt: get(OP, row, 6)?,
                    parked: get(OP, row, 7)?,
                    reason: get(OP, row, 8)?,
                    error: get(OP, row, 9)?,
                })
            })
            .collect()
    }

    /// The newest audit rows, newest first.
    pub async fn audit(&self, limit: i64) -> Result<Vec<AuditRow>, StoreError> {
        const OP: &str = "audit";
        let rows = self
            .read(
                OP,
                "select id, at, by, action, component, detail from switchyard.audit_rows($1) order by id desc",
                &[(&limit.max(0), Type::INT8)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let detail: &str = get(OP, row, 5)?;
                Ok(AuditRow {
                    id: get(OP, row, 0)?,
                    at: get(OP, row, 1)?,
                    by: get(OP, row, 2)?,
                    action: get(OP, row, 3)?,
                    component: get(OP, row, 4)?,
                    detail: serde_json::from_str(detail).map_err(|e| StoreError::bug(OP, e.to_string()))?,
                })
            })
            .collect()
    }

    /// Adds an audit row for something that was done outside the database. `detail` is JSON without any payload.
    ///
    /// Fails with [`StoreError::Refused`] if `detail` is not JSON.
    pub async fn note(
        &self,
        operator: &str,
        action: &str,
        agent: Option<&str>,
        detail: &str,
    ) -> Result<(), StoreError> {
        self.write(
            "note",
            "select switchyard.note_as($1, $2, $3, $4::text::jsonb)",
            &[
                (&clean(operator).as_ref(), Type::TEXT),
                (&action, Type::TEXT),
                (&agent, Type::TEXT),
                (&detail, Type::TEXT),
            ],
        )
        .await?;
        Ok(())
    }
}
