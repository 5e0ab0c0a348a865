//! Payloads of events whose message came without (a claim check).

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::claim::get;
use crate::{Store, StoreError};

/// A payload out of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredPayload {
    /// As `payload::text` prints it: the newest revision.
    Text(String),
    /// Larger than was asked for: so many bytes.
    TooLarge(i64),
}

impl Store {
    /// The payloads of these events, in one round trip and in the order asked; `None` where an event is not in the table. One that is
    /// larger than `max_bytes` is not sent.
    ///
    /// Fails with [`StoreError::Config`] where row-level security hides events from this role.
    pub async fn payloads(&self, events: &[Uuid], max_bytes: i64) -> Result<Vec<Option<StoredPayload>>, StoreError> {
        const OP: &str = "payloads";
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .read(
                OP,
                "select payload, bytes from switchyard.payloads($1, $2) order by ord",
                &[(&events, Type::UUID_ARRAY), (&max_bytes, Type::INT8)],
            )
            .await?;
        if rows.len() != events.len() {
            return Err(StoreError::bug(OP, "another number of answers than of questions"));
        }
        rows.iter()
            .map(|row| {
                let (text, bytes): (Option<String>, Option<i64>) = (get(OP, row, 0)?, get(OP, row, 1)?);
                Ok(match (text, bytes) {
                    (Some(text), _) => Some(StoredPayload::Text(text)),
                    (None, Some(bytes)) => Some(StoredPayload::TooLarge(bytes)),
                    (None, None) => None,
                })
            })
            .collect()
    }
}
