//! Events that wait for their time: looked at, and cancelled.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::claim::{clean, get};
use crate::store::only;
use crate::{Store, StoreError};

/// An event whose time (`deliver_at` of its metadata) has not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delayed {
    /// Its place in the event log.
    pub seq: i64,
    /// The event.
    pub event_id: Uuid,
    /// Such as `feedback.created`.
    pub event_type: String,
    /// Empty where the table has none.
    pub aggregate_id: String,
    /// The project of its metadata or payload.
    pub project_id: Option<String>,
    /// When it is to be published: RFC 3339, in UTC.
    pub due_at: String,
    /// Since when it waits: RFC 3339, in UTC.
    pub logged_at: String,
}

/// Which of them: all, unless narrowed. Conditions of different kinds must all hold; of one kind, one must.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delays {
    /// Of these types.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Of these projects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<String>,
    /// Of these aggregates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aggregates: Vec<String>,
}

/// What became of one that was to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancellation {
    /// It stays in its table, and no agent gets it.
    Cancelled,
    /// It was cancelled before.
    AlreadyCancelled,
    /// No logged event has this id.
    Unknown,
    /// It never had to wait.
    NotDelayed,
    /// Its time has come: it is published, or about to be.
    Due,
    /// The old system has worked on it before its time, or somebody has parked it: cancelling it would undo nothing.
    Taken,
}

impl Cancellation {
    fn parse(text: &str) -> Result<Self, StoreError> {
        Ok(match text {
            "cancelled" => Self::Cancelled,
            "already_cancelled" => Self::AlreadyCancelled,
            "unknown" => Self::Unknown,
            "not_delayed" => Self::NotDelayed,
            "due" => Self::Due,
            "taken" => Self::Taken,
            other => return Err(StoreError::bug("cancel_delayed", format!("no such answer: {other}"))),
        })
    }
}

impl Store {
    /// What waits for its time, the next first, at most `limit`. What was set aside is not among it ([`Store::set_aside`]).
    pub async fn delayed(&self, limit: i64, which: &Delays) -> Result<Vec<Delayed>, StoreError> {
        const OP: &str = "delayed";
        let rows = self
            .read(
                OP,
                "select seq, event_id, type, aggregate_id, project_id, switchyard.rfc3339(due_at), switchyard.rfc3339(logged_at)
                   from switchyard.delayed($1, $2, $3, null, 0, $4)",
                &[
                    (&which.types, Type::TEXT_ARRAY),
                    (&which.projects, Type::TEXT_ARRAY),
                    (&which.aggregates, Type::TEXT_ARRAY),
                    (&limit.max(0), Type::INT8),
                ],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Delayed {
                    seq: get(OP, row, 0)?,
                    event_id: get(OP, row, 1)?,
                    event_type: get(OP, row, 2)?,
                    aggregate_id: get(OP, row, 3)?,
                    project_id: get(OP, row, 4)?,
                    due_at: get(OP, row, 5)?,
                    logged_at: get(OP, row, 6)?,
                })
            })
            .collect()
    }

    /// How many there are.
    pub async fn delayed_count(&self) -> Result<i64, StoreError> {
        const OP: &str = "delayed_count";
        const SQL: &str = "select count(*) from switchyard.outbox o
            where o.parked_at is null and o.due_at is not null and o.due_at > now()";
        let rows = self.read(OP, SQL, &[]).await?;
        get(OP, &only(OP, rows)?, 0)
    }

    /// Cancels events that wait for their time, and says of each what became of it; each counts for itself, and naming one twice is naming it
    /// once. An event that is cancelled stays in its table; its deliveries are settled as expired, with the reason `cancelled`, and no agent that
    /// comes to listen to it later gets it either. Audited.
    ///
    /// Fails with [`StoreError::Conflict`] where somebody holds one of its deliveries for too long; nothing was cancelled then.
    pub async fn cancel_delayed(
        &self,
        events: &[Uuid],
        operator: &str,
        because: &str,
    ) -> Result<Vec<(Uuid, Cancellation)>, StoreError> {
        const OP: &str = "cancel_delayed";
        let rows = self
            .write(
                OP,
                "select event_id, answer from switchyard.cancel_delayed($1, $2, $3)",
                &[
                    (&events, Type::UUID_ARRAY),
                    (&clean(operator).as_ref(), Type::TEXT),
                    (&clean(because).as_ref(), Type::TEXT),
                ],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let answer: String = get(OP, row, 1)?;
                Ok((get(OP, row, 0)?, Cancellation::parse(&answer)?))
            })
            .collect()
    }
}
