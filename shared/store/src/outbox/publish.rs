//! Publishing an event from a program that holds a store: the same as `switchyard.publish` in SQL.

use std::time::Duration;

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::row::{get, only};
use crate::{Store, StoreError};

/// An event to publish. [`Publication::new`] fills in what most events leave out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication<'a> {
    /// Such as `feedback.created`.
    pub event_type: &'a str,
    /// Such as `post`.
    pub aggregate_type: &'a str,
    /// The aggregate's id, as the table's column takes it: a UUID, unless a mapping names another column.
    pub aggregate_id: &'a str,
    /// JSON.
    pub payload: &'a str,
    /// The project, if there is one.
    pub project_id: Option<&'a str>,
    /// The payload's schema version.
    pub version: i32,
    /// A JSON object of further metadata; the timestamp is filled in.
    pub metadata: &'a str,
    /// With it a repetition appends nothing, within a project and a type.
    pub idempotency_key: Option<&'a str>,
    /// How long after the first event the key counts, in whole milliseconds; `None` means for ever. Keys with a window and keys without do not know
    /// each other, so use a key always with a window or never.
    pub idempotency_window: Option<Duration>,
}

impl<'a> Publication<'a> {
    /// Version 1, no project, no further metadata, no idempotency key.
    pub const fn new(event_type: &'a str, aggregate_type: &'a str, aggregate_id: &'a str, payload: &'a str) -> Self {
        Self {
            event_type,
            aggregate_type,
            aggregate_id,
            payload,
            project_id: None,
            version: 1,
            metadata: "{}",
            idempotency_key: None,
            idempotency_window: None,
        }
    }
}

impl Store {
    /// Appends one event, in a transaction of its own, and returns its id. With an idempotency key, a repetition (within its window) appends nothing
    /// and returns the id of the first.
    ///
    /// Fails with [`StoreError::Refused`] if the table cannot store it (no type, a payload that is not JSON or holds an escaped NUL, an aggregate id
    /// that its column refuses), and for a window without a key or of no length.
    pub async fn publish(&self, event: &Publication<'_>) -> Result<Uuid, StoreError> {
        let window = event.idempotency_window.map(|window| i64::try_from(window.as_millis()).unwrap_or(i64::MAX));
        let rows = self
            .write(
                "publish",
                "select switchyard.publish($1, $2, $3, $4::text::jsonb, $5, $6, $7::text::jsonb, $8, $9::float8 * interval '1 millisecond')",
                &[
                    (&event.event_type, Type::TEXT),
                    (&event.aggregate_type, Type::TEXT),
                    (&event.aggregate_id, Type::TEXT),
                    (&event.payload, Type::TEXT),
                    (&event.project_id, Type::TEXT),
                    (&event.version, Type::INT4),
                    (&event.metadata, Type::TEXT),
                    (&event.idempotency_key, Type::TEXT),
                    (&window, Type::INT8),
                ],
            )
            .await?;
        get("publish", &only("publish", rows)?, 0)
    }
}
