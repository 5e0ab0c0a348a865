//! Deliveries that may have killed the process which tried them.

use tokio_postgres::types::Type;

use crate::ledger::claim::{Ask, columns};
use crate::row::{count, get, only};
use crate::{Store, StoreError};

impl Store {
    /// Counts a death beforehand, in a transaction of its own: the caller is about to try this delivery alone, and if the process dies of
    /// it nobody else could count. Returns the deaths in a row, this trial's included; 0 where there is nothing of the agent's to try
    /// (settled, parked, the other side's, of another epoch), which the claim will say. For an agent in shadow mode that is what the old
    /// system owns, in whatever state: its count goes up too, and nothing else of the row changes.
    ///
    /// Fails with [`StoreError::Config`] where the agent is not registered.
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

    /// Takes the suspicion back: these were tried, whatever came of it, and the process lives.
    ///
    /// Fails with [`StoreError::Config`] where the agent is not registered.
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
