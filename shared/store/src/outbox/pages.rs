//! What the shim reads and deletes.

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::row::{clean, get, only};
use crate::{Shards, Store, StoreError};

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
    /// Exactly as `payload::text` prints it, the newest revision. `None` where that is larger than was asked for.
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
    /// How often a person has edited the payload; `None` where it is the event's own.
    pub revision: Option<i32>,
    /// What of the row is larger than the store reads, in words: then nothing else of it was read, and nobody can publish it. Its metadata may have
    /// 256 KiB, and its type, aggregate type, aggregate and project 1 KiB each.
    pub excess: Option<String>,
}

/// What a reader of the outbox has already, and what it wants no more of for now.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Sequences that it has, whatever became of them.
    pub seqs: Vec<i64>,
    /// Aggregates (their ids) of which it has enough.
    pub full: Vec<String>,
}

/// How much of the outbox one read takes.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// How many rows at most.
    pub rows: usize,
    /// How many of one aggregate at most: its first.
    pub per_aggregate: usize,
    /// Payloads over so many bytes are left out, since no message could carry them; only their size is told.
    pub payload_bytes: usize,
    /// The page ends when its payloads, metadata and names come to so many bytes; the first row is always on it.
    pub bytes: usize,
    /// Only aggregates of these shards.
    pub shards: Shards,
}

impl Page {
    /// So many rows of all shards, be they of one aggregate, payloads of up to 256 KiB, and 8 MiB in all.
    #[must_use]
    pub const fn of(rows: usize) -> Self {
        Self { rows, per_aggregate: rows, payload_bytes: 256 * 1024, bytes: 8 * 1024 * 1024, shards: Shards::ALL }
    }
}

pub(crate) const COLUMNS: &str = "seq, id, type, aggregate_type, aggregate_id, payload, payload_bytes, metadata, version, created_at, project_id, revision, excess";

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
        })
    }
}

impl Store {
    /// What is to be published now and is not known to the caller, in the order of the sequence. Every page starts at the beginning and is
    /// one snapshot, so whoever takes pages in gets each aggregate's events in the order of inserts that did not overlap. An empty page
    /// means that nothing is pending but what was excluded. Outbox rows whose event was deleted are removed on the way.
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

    /// Events by their sequence, in the order given: for a claim check and for sending again.
    pub async fn events(&self, seqs: &[i64]) -> Result<Vec<Pending>, StoreError> {
        let sql = format!("select {COLUMNS} from switchyard.events_of($1)");
        let rows = self.read("events", &sql, &[(&seqs, Type::INT8_ARRAY)]).await?;
        rows.iter().map(|row| Pending::of("events", row)).collect()
    }

    /// Makes everything pending again that is not final for some agent, and returns how many events that were. For a transport that has lost
    /// all it carried, such as queues that were made anew; agents that have settled an event say so to the copy. Walks the whole log.
    pub async fn publish_again(&self) -> Result<u64, StoreError> {
        let rows = self.write("publish_again", "select switchyard.publish_again()", &[]).await?;
        let n: i64 = get("publish_again", &only("publish_again", rows)?, 0)?;
        Ok(n.unsigned_abs())
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

/// A size as Postgres takes it.
fn whole(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
