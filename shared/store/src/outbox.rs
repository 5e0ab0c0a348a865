//! What the shim reads and deletes.

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::claim::{clean, get};
use crate::store::only;
use crate::{Store, StoreError};

/// An event as it goes on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its place in the event log.
    pub seq: i64,
    /// The event.
    pub id: Uuid,
    /// Such as `feedback.created`; empty where the table has none.
    pub event_type: String,
    /// Such as `post`; empty where the table has none.
    pub aggregate_type: String,
    /// Empty where the table has none.
    pub aggregate_id: String,
    /// Exactly as `payload::text` prints it. `None` where that is over 1 MiB, more than any message can carry.
    pub payload: Option<String>,
    /// How long the payload is.
    pub payload_bytes: usize,
    /// Exactly as `metadata::text` prints it.
    pub metadata: Option<String>,
    /// The payload's schema version.
    pub version: Option<i32>,
    /// When it was inserted: RFC 3339, in UTC.
    pub created_at: Option<String>,
    /// The project of its metadata or payload.
    pub project_id: Option<String>,
}

pub(crate) const COLUMNS: &str =
    "seq, id, type, aggregate_type, aggregate_id, payload, payload_bytes, metadata, version, created_at, project_id";

impl Pending {
    pub(crate) fn of(operation: &'static str, row: &Row) -> Result<Self, StoreError> {
        let bytes: i32 = get(operation, row, 6)?;
        Ok(Self {
            seq: get(operation, row, 0)?,
            id: get(operation, row, 1)?,
            event_type: get(operation, row, 2)?,
            aggregate_type: get(operation, row, 3)?,
            aggregate_id: get(operation, row, 4)?,
            payload: get(operation, row, 5)?,
            payload_bytes: usize::try_from(bytes).unwrap_or(0),
            metadata: get(operation, row, 7)?,
            version: get(operation, row, 8)?,
            created_at: get(operation, row, 9)?,
            project_id: get(operation, row, 10)?,
        })
    }
}

impl Store {
    /// What is to be published now, above `after_seq`, in the order of the sequence. Pages within one scan; every scan starts at
    /// 0 again, since rows of a lower sequence may have been committed meanwhile.
    pub async fn pending(&self, after_seq: i64, limit: i64) -> Result<Vec<Pending>, StoreError> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let sql = format!("select {COLUMNS} from switchyard.pending($1, $2) order by seq");
        let rows = self.read("pending", &sql, &[(&after_seq, Type::INT8), (&limit, Type::INT4)]).await?;
        rows.iter().map(|row| Pending::of("pending", row)).collect()
    }

    /// Events by their sequence, in the order given: for a claim check and for sending again.
    pub async fn events(&self, seqs: &[i64]) -> Result<Vec<Pending>, StoreError> {
        let sql = format!("select {COLUMNS} from switchyard.events_of($1)");
        let rows = self.read("events", &sql, &[(&seqs, Type::INT8_ARRAY)]).await?;
        rows.iter().map(|row| Pending::of("events", row)).collect()
    }

    /// The topic has these: deletes their outbox rows and returns how many there were.
    pub async fn published(&self, seqs: &[i64]) -> Result<u64, StoreError> {
        let rows = self.read("published", "select switchyard.published($1)", &[(&seqs, Type::INT8_ARRAY)]).await?;
        let n: i64 = get("published", &only("published", rows)?, 0)?;
        Ok(n.unsigned_abs())
    }

    /// The topic refused these for a reason of their own (sequence and reason). Returns those that are parked by it, having been
    /// refused `max` times: they are not pending any more, and a person must look.
    pub async fn refused(&self, refusals: &[(i64, String)], max: u16) -> Result<Vec<i64>, StoreError> {
        let seqs: Vec<i64> = refusals.iter().map(|(seq, _)| *seq).collect();
        let reasons: Vec<String> = refusals.iter().map(|(_, reason)| clean(reason).into_owned()).collect();
        let rows = self
            .write(
                "refused",
                "select * from switchyard.refused($1, $2, $3)",
                &[(&seqs, Type::INT8_ARRAY), (&reasons, Type::TEXT_ARRAY), (&i32::from(max), Type::INT4)],
            )
            .await?;
        rows.iter().map(|row| get("refused", row, 0)).collect()
    }
}
