//! Stores the outcomes of comparisons.

use switchyard_compare::Outcome;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::row::{get, only};
use crate::{Store, StoreError};

/// The outcome of an event, without any value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The event.
    pub event_id: Uuid,
    /// Its outcome.
    pub outcome: Outcome,
    /// The names of the fields that differ.
    pub differs: Vec<String>,
}

impl Store {
    /// Stores outcomes and counts them. Each decision counts once, however often it is compared. Does nothing if the mapping has changed. Returns
    /// how many were counted.
    pub async fn note_compared(&self, agent: &str, version: i32, judged: &[Judged]) -> Result<u64, StoreError> {
        const OP: &str = "note_compared";
        let events: Vec<Uuid> = judged.iter().map(|judged| judged.event_id).collect();
        let outcomes: Vec<&str> = judged.iter().map(|judged| judged.outcome.name()).collect();
        let differs: Vec<String> =
            judged.iter().map(|judged| serde_json::Value::from(judged.differs.clone()).to_string()).collect();
        let rows = self
            .write(
                OP,
                "select switchyard.note_compared($1, $2, $3, $4, $5)",
                &[
                    (&agent, Type::TEXT),
                    (&version, Type::INT4),
                    (&events, Type::UUID_ARRAY),
                    (&outcomes, Type::TEXT_ARRAY),
                    (&differs, Type::TEXT_ARRAY),
                ],
            )
            .await?;
        Ok(u64::try_from(get::<i64>(OP, &only(OP, rows)?, 0)?).unwrap_or(0))
    }
}
