//! What the shim reads and deletes.

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::row::{clean, get, only};
use crate::{Shards, Store, StoreError};

/// An event as it is published.
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
    /// Exactly as `payload::text` prints it, the newest revision. `None` if it is larger than the limit.
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
    /// The newest revision of the payload; `None` if it was never edited.
    pub revision: Option<i32>,
    /// Which part of the row is larger than the store reads, in words: then nothing else of it was read, and it cannot be published. The limits are
    /// 256 KiB for metadata, and 1 KiB each for type, aggregate type, aggregate and project.
    pub excess: Option<String>,
    /// The key of the seal that its messages bear.
    pub seal_key: Vec<u8>,
}

/// What a reader of the outbox already has, and the aggregates of which it wants no more.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Sequences that it has, in any state.
    pub seqs: Vec<i64>,
    /// Ids of aggregates of which it has enough.
    pub full: Vec<String>,
}

/// The limits of one read of the outbox.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// How many rows at most.
    pub rows: usize,
    /// How many rows of one aggregate at most, its first ones.
    pub per_aggregate: usize,
    /// Payloads larger than this are left out, because no message could carry them; their size is returned.
    pub payload_bytes: usize,
    /// The page ends when its payloads, metadata and names reach this many bytes. The first row is always on it.
    pub bytes: usize,
    /// Only aggregates of these shards.
    pub shards: Shards,
}

impl Page {
    /// A page of this many rows, of all shards and even of one aggregate, with payloads of up to 256 KiB, and 8 MiB in all.
    #[must_use]
    pub const fn of(rows: usize) -> Self {
        Self { rows, per_aggregate: rows, payload_bytes: 256 * 1024, bytes: 8 * 1024 * 1024, shards: Shards::ALL }
    }
}

pub(crate) const COLUMNS: &str = "seq, id, type, aggregate_type, aggregate_id, payload, payload_bytes, metadata, version, created_at, project_id, revision, excess, seal_key";

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
            revision: get(operation, row, 11)?,
            excess: get(operation, row, 12)?,
            seal_key: get(operation, row, 13)?,
        })
    }
}

impl Store {
    /// Returns what to publish now that the caller does not know, in the order of the sequence. Every page starts at the beginning and is one
    /// snapshot, so a caller of several pages gets each aggregate's events in the order of inserts that did not overlap. An empty page means that
    /// nothing is pending except what was excluded. It deletes outbox rows whose event was deleted.
    pub async fn pending(&self, known: &Known, page: Page) -> Result<Vec<Pending>, StoreError> {
        let sql = format!("select {COLUMNS} from switchyard.pending($1, $2, $3, $4, $5, $6, $7) order by seq");
        let shards = (page.shards != Shards::ALL).then(|| page.shards.numbers());
        let rows = self
            .read(
                "pending",
                &sql,
                &[
                    (&known.seqs, Type::INT8_ARRAY),
                    (&known.full, Type::TEXT_ARRAY),
                    (&shards, Type::INT4_ARRAY),
                    (&whole(page.rows), Type::INT4),
                    (&whole(page.per_aggregate), Type::INT4),
                    (&whole(page.payload_bytes), Type::INT4),
                    (&whole(page.bytes), Type::INT4),
                ],
            )
            .await?;
        rows.iter().map(|row| Pending::of("pending", row)).collect()
    }

    /// Returns events by their sequence, in the order given, for claim checks and resends.
    pub async fn events(&self, seqs: &[i64]) -> Result<Vec<Pending>, StoreError> {
        let sql = format!("select {COLUMNS} from switchyard.events_of($1)");
        let rows = self.read("events", &sql, &[(&seqs, Type::INT8_ARRAY)]).await?;
        rows.iter().map(|row| Pending::of("events", row)).collect()
    }

    /// Puts events into the outbox again that are not final for some agent, and returns how many. Use it after the transport has lost them, for
    /// example when the queues were created again; an agent that has settled an event drops the copy. Reads the whole event log.
    pub async fn publish_again(&self) -> Result<u64, StoreError> {
        let rows = self.write("publish_again", "select switchyard.publish_again()", &[]).await?;
        let n: i64 = get("publish_again", &only("publish_again", rows)?, 0)?;
        Ok(n.unsigned_abs())
    }

    /// Deletes the outbox rows of events that the topic has accepted, and returns how many there were.
    pub async fn published(&self, seqs: &[i64]) -> Result<u64, StoreError> {
        let rows = self.read("published", "select switchyard.published($1)", &[(&seqs, Type::INT8_ARRAY)]).await?;
        let n: i64 = get("published", &only("published", rows)?, 0)?;
        Ok(n.unsigned_abs())
    }

    /// Counts refusals by the topic for the event's own sake (sequence and reason). Returns those that it parked after `max` refusals: they are no
    /// longer pending, and an operator must look.
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

/// A size as Postgres takes it.
fn whole(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
