//! The chain of an event.

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::row::get;
use crate::{Store, StoreError};

/// An event in a chain of causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The event.
    pub id: Uuid,
    /// Such as `feedback.created`.
    pub event_type: String,
    /// The aggregate's id.
    pub aggregate_id: String,
    /// The hops in its metadata.
    pub hops: i32,
    /// When it was inserted: RFC 3339.
    pub at: String,
}

impl Store {
    /// Returns the chain of an event: its first cause first, the event itself last, at most `at_most` events, those nearest to it. It ends where a
    /// cause is not in the table, and at a circle. Empty if the event is not in the table.
    pub async fn chain(&self, event_id: Uuid, at_most: i64) -> Result<Vec<Link>, StoreError> {
        const OP: &str = "chain";
        let rows = self
            .read(
                OP,
                "select id, type, aggregate_id, hops, at from switchyard.chain_of($1, $2) order by nth",
                &[(&event_id, Type::UUID), (&at_most, Type::INT8)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Link {
                    id: get(OP, row, 0)?,
                    event_type: get(OP, row, 1)?,
                    aggregate_id: get(OP, row, 2)?,
                    hops: get(OP, row, 3)?,
                    at: get(OP, row, 4)?,
                })
            })
            .collect()
    }
}
