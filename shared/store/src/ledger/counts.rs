//! The ledger in numbers.

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::row::{get, only};
use crate::{Store, StoreError};

/// Live deliveries (run 0) of one agent, in numbers. The states add up to `subscribed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Events that it should get.
    pub subscribed: i64,
    /// Done by either side.
    pub done: i64,
    /// No row yet: under way, or for the next sweep to find.
    pub pending: i64,
    /// Assigned to the agent.
    pub assigned: i64,
    /// Assigned to the old system.
    pub assigned_old: i64,
    /// Failed, to be tried again.
    pub failing: i64,
    /// Parked, for an operator.
    pub parked: i64,
    /// How many of these are the old system's.
    pub parked_old: i64,
    /// A newer event of the aggregate has already written.
    pub superseded: i64,
    /// Not needed any more: deleted, cancelled or dismissed.
    pub expired: i64,
}

/// An event without a delivery row that is older than the grace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its place in the event log.
    pub seq: i64,
    /// The event.
    pub event_id: Uuid,
}

impl Store {
    /// Returns an agent's ledger. The cost grows with what is unfinished, superseded or expired (three seconds at a million), not with what is done.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn ledger(&self, agent: &str) -> Result<Ledger, StoreError> {
        const OP: &str = "ledger";
        let rows = self
            .read(
                OP,
                "select subscribed, done, pending, assigned, assigned_old, failing, parked, parked_old, superseded, expired
                   from switchyard.ledger($1)",
                &[(&agent, Type::TEXT)],
            )
            .await?;
        let row = only(OP, rows)?;
        Ok(Ledger {
            subscribed: get(OP, &row, 0)?,
            done: get(OP, &row, 1)?,
            pending: get(OP, &row, 2)?,
            assigned: get(OP, &row, 3)?,
            assigned_old: get(OP, &row, 4)?,
            failing: get(OP, &row, 5)?,
            parked: get(OP, &row, 6)?,
            parked_old: get(OP, &row, 7)?,
            superseded: get(OP, &row, 8)?,
            expired: get(OP, &row, 9)?,
        })
    }

    /// Returns events older than the grace without a row, at most a thousand. Right after a sweep there are none.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn missing(&self, agent: &str) -> Result<Vec<Missing>, StoreError> {
        let rows =
            self.read("missing", "select seq, event_id from switchyard.missing($1)", &[(&agent, Type::TEXT)]).await?;
        rows.iter().map(|row| Ok(Missing { seq: get("missing", row, 0)?, event_id: get("missing", row, 1)? })).collect()
    }

    /// The names of all agents that were ever registered.
    pub async fn agents(&self) -> Result<Vec<String>, StoreError> {
        let rows = self.read("agents", "select * from switchyard.agents()", &[]).await?;
        rows.iter().map(|row| get("agents", row, 0)).collect()
    }
}
