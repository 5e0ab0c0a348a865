//! Delayed events: listed and cancelled.

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::row::{clean, get, only, word};
use crate::{Cancellation, Delayed, Delays, Store, StoreError};

impl Store {
    /// Returns delayed events, the next due first, at most `limit`. Rows that could not be published are not among them ([`Store::unpublishable`]).
    pub async fn delayed(&self, limit: i64, which: &Delays) -> Result<Vec<Delayed>, StoreError> {
        const OP: &str = "delayed";
        let rows = self
            .read(
                OP,
                "select seq, event_id, type, aggregate_id, project_id, switchyard.rfc3339(due_at), switchyard.rfc3339(logged_at)
                   from switchyard.delayed($1, $2, $3, null, 0, $4)",
                &[
                    (&which.types, Type::TEXT_ARRAY),
                    (&which.projects, Type::TEXT_ARRAY),
                    (&which.aggregates, Type::TEXT_ARRAY),
                    (&limit.max(0), Type::INT8),
                ],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Delayed {
                    seq: get(OP, row, 0)?,
                    event_id: get(OP, row, 1)?,
                    event_type: get(OP, row, 2)?,
                    aggregate_id: get(OP, row, 3)?,
                    project_id: get(OP, row, 4)?,
                    due_at: get(OP, row, 5)?,
                    logged_at: get(OP, row, 6)?,
                })
            })
            .collect()
    }

    /// Returns how many there are.
    pub async fn delayed_count(&self) -> Result<i64, StoreError> {
        const OP: &str = "delayed_count";
        let rows = self.read(OP, "select switchyard.delayed_count()", &[]).await?;
        get(OP, &only(OP, rows)?, 0)
    }

    /// Cancels delayed events, and returns what happened to each. A repeated id counts once. A cancelled event stays in its table; its deliveries
    /// are settled as expired, with the reason `cancelled`, and no agent that subscribes later receives it. Audited.
    ///
    /// Fails with [`StoreError::Conflict`] if another transaction holds one of its deliveries for too long; then nothing was cancelled.
    pub async fn cancel_delayed(
        &self,
        events: &[Uuid],
        operator: &str,
        because: &str,
    ) -> Result<Vec<(Uuid, Cancellation)>, StoreError> {
        const OP: &str = "cancel_delayed";
        let rows = self
            .write(
                OP,
                "select event_id, answer from switchyard.cancel_delayed($1, $2, $3)",
                &[
                    (&events, Type::UUID_ARRAY),
                    (&clean(operator).as_ref(), Type::TEXT),
                    (&clean(because).as_ref(), Type::TEXT),
                ],
            )
            .await?;
        rows.iter().map(|row| Ok((get(OP, row, 0)?, word(OP, row, 1, Cancellation::named)?))).collect()
    }
}
