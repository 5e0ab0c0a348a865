//! Payloads of claim checks, which are messages without a payload.

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::row::get;
use crate::{Store, StoreError};

/// A payload out of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPayload {
    /// Which revision it is: 0 for the event's own.
    pub revision: i32,
    /// How long it is.
    pub bytes: i64,
    /// As `payload::text` prints it: the newest revision. `None` if it is larger than the limit, alone or with those before it.
    pub text: Option<String>,
}

impl Store {
    /// Returns the payloads of these events, in one round trip and in the order asked; `None` for an event that is not in the table. It returns at
    /// most `max_bytes` in all: a larger payload is left out, and so are those that no longer fit.
    ///
    /// Fails with [`StoreError::Config`] if row-level security hides events from this role.
    pub async fn payloads(&self, events: &[Uuid], max_bytes: i64) -> Result<Vec<Option<StoredPayload>>, StoreError> {
        const OP: &str = "payloads";
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .read(
                OP,
                "select payload, bytes, revision from switchyard.payloads($1, $2) order by ord",
                &[(&events, Type::UUID_ARRAY), (&max_bytes, Type::INT8)],
            )
            .await?;
        if rows.len() != events.len() {
            return Err(StoreError::bug(OP, "another number of answers than of questions"));
        }
        rows.iter()
            .map(|row| {
                let bytes: Option<i64> = get(OP, row, 1)?;
                let (text, revision) = (get(OP, row, 0)?, get(OP, row, 2)?);
                Ok(bytes.map(|bytes| StoredPayload { revision, bytes, text }))
            })
            .collect()
    }
}
