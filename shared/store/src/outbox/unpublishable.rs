//! Outbox rows that could not be published, because the topic refused them.

use tokio_postgres::types::Type;

use crate::row::{clean, count, get, only};
use crate::{Store, StoreError, UnpublishableEvent};

impl Store {
    /// Returns the rows that could not be published, the lowest sequences first.
    pub async fn unpublishable(&self, limit: i64) -> Result<Vec<UnpublishableEvent>, StoreError> {
        const OP: &str = "unpublishable";
        let rows = self
            .read(
                OP,
                "select seq, event_id, type, reason, attempts, parked_at from switchyard.unpublishable($1) order by seq",
                &[(&limit.max(0), Type::INT8)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(UnpublishableEvent {
                    seq: get(OP, row, 0)?,
                    event_id: get(OP, row, 1)?,
                    event_type: get(OP, row, 2)?,
                    reason: get(OP, row, 3)?,
                    attempts: count(get(OP, row, 4)?),
                    parked_at: get(OP, row, 5)?,
                })
            })
            .collect()
    }

    /// Returns how many there are.
    pub async fn unpublishable_count(&self) -> Result<i64, StoreError> {
        const OP: &str = "unpublishable_count";
        let rows = self.read(OP, "select switchyard.unpublishable_count()", &[]).await?;
        get(OP, &only(OP, rows)?, 0)
    }

    /// For how many seconds the first event in line has been waiting for the shim: of what is to go at once, and of what has waited for its time.
    pub async fn oldest_unpublished_secs(&self) -> Result<f64, StoreError> {
        const OP: &str = "oldest_unpublished_secs";
        let rows = self.read(OP, "select switchyard.oldest_unpublished_secs()", &[]).await?;
        get(OP, &only(OP, rows)?, 0)
    }

    /// Publishes these rows again, as if never refused; without any, all of them. Returns how many. Audited.
    pub async fn retry_publishing(&self, seqs: &[i64], operator: &str) -> Result<u64, StoreError> {
        const OP: &str = "retry_publishing";
        let rows = self
            .write(
                OP,
                "select switchyard.retry_publishing($1, $2)",
                &[(&seqs, Type::INT8_ARRAY), (&clean(operator).as_ref(), Type::TEXT)],
            )
            .await?;
        let n: i64 = get(OP, &only(OP, rows)?, 0)?;
        Ok(n.unsigned_abs())
    }
}
