//! Suspects: deliveries that may have killed the process that tried them.

use tokio_postgres::types::Type;

use crate::ledger::claim::{Ask, columns};
use crate::row::{count, get, only};
use crate::{Store, StoreError};

impl Store {
    /// Counts a death in advance, in a transaction of its own: the caller is about to try the delivery alone, and could not count if its process
    /// died. Returns the deaths in a row, with this trial; 0 if the agent has nothing to try (settled, parked, the other side's, another epoch),
    /// which the claim then answers. An agent in shadow mode also tries what the old system owns, in any state; only the count of the row changes.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn suspect(&self, agent: &str, ask: &Ask) -> Result<u16, StoreError> {
        const OP: &str = "suspect";
        let rows = self
            .write(
                OP,
                "select switchyard.suspect($1, $2, $3, $4)",
                &[(&agent, Type::TEXT), (&ask.event_id, Type::UUID), (&ask.run, Type::INT4), (&ask.epoch, Type::INT4)],
            )
            .await?;
        Ok(count(get(OP, &only(OP, rows)?, 0)?))
    }

    /// Resets the deaths of deliveries that were tried, with any outcome, in a process that lives.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn survived(&self, agent: &str, asks: &[Ask]) -> Result<(), StoreError> {
        if asks.is_empty() {
            return Ok(());
        }
        let (events, runs) = columns(asks);
        self.write(
            "survived",
            "select switchyard.survived($1, $2, $3)",
            &[(&agent, Type::TEXT), (&events, Type::UUID_ARRAY), (&runs, Type::INT4_ARRAY)],
        )
        .await?;
        Ok(())
    }
}
