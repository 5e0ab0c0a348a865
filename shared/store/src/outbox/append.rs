//! Appending events.

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::StoreError;
use crate::row::{get, only};

/// An event to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendEvent {
    /// Its id. An id that exists in the table is skipped.
    pub id: Uuid,
    /// Such as `sentiment.analyzed`.
    pub event_type: String,
    /// Such as `post`.
    pub aggregate_type: String,
    /// As the application's column wants it: a UUID, unless a mapping names another.
    pub aggregate_id: String,
    /// JSON.
    pub payload: String,
    /// The payload's schema version.
    pub version: i32,
    /// A JSON object; `timestamp` is filled in where it is absent.
    pub metadata: String,
}

pub(crate) const SQL: &str = "select switchyard.append($1, $2, $3, $4, $5, $6, $7)";

/// The events as one array for each column, so that one statement appends any number.
pub(crate) struct Columns<'e> {
    ids: Vec<Uuid>,
    types: Vec<&'e str>,
    aggregate_types: Vec<&'e str>,
    aggregate_ids: Vec<&'e str>,
    payloads: Vec<&'e str>,
    versions: Vec<i32>,
    metadata: Vec<&'e str>,
}

impl<'e> Columns<'e> {
    pub(crate) fn of(events: &'e [AppendEvent]) -> Self {
        Self {
            ids: events.iter().map(|e| e.id).collect(),
            types: events.iter().map(|e| e.event_type.as_str()).collect(),
            aggregate_types: events.iter().map(|e| e.aggregate_type.as_str()).collect(),
            aggregate_ids: events.iter().map(|e| e.aggregate_id.as_str()).collect(),
            payloads: events.iter().map(|e| e.payload.as_str()).collect(),
            versions: events.iter().map(|e| e.version).collect(),
            metadata: events.iter().map(|e| e.metadata.as_str()).collect(),
        }
    }

    pub(crate) fn parameters(&self) -> [(&(dyn ToSql + Sync), Type); 7] {
        [
            (&self.ids, Type::UUID_ARRAY),
            (&self.types, Type::TEXT_ARRAY),
            (&self.aggregate_types, Type::TEXT_ARRAY),
            (&self.aggregate_ids, Type::TEXT_ARRAY),
            (&self.payloads, Type::TEXT_ARRAY),
            (&self.versions, Type::INT4_ARRAY),
            (&self.metadata, Type::TEXT_ARRAY),
        ]
    }
}

pub(crate) fn count(rows: Vec<Row>) -> Result<u64, StoreError> {
    let n: i64 = get("append", &only("append", rows)?, 0)?;
    Ok(n.unsigned_abs())
}
