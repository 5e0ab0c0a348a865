//! Payloads that an operator has edited.

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::row::{clean, get, only};
use crate::{Store, StoreError};

/// What a [`Store::revise_and_redrive`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revised {
    /// The number of the new revision: 1 for the first.
    pub revision: i32,
    /// The event's place in the event log.
    pub seq: i64,
}

impl Store {
    /// Adds a revision of an event's payload, which [`Store::events`] and [`Store::payloads`] return from now on, and so every message carries. The
    /// row in the events table stays as it is. Returns the number of the revision, 1 for the first. Audited, without the payload.
    ///
    /// Fails with [`StoreError::Config`] if the payload is not JSON or holds a NUL, and if the event is not in the event log.
    pub async fn revise(&self, event_id: Uuid, payload: &str, operator: &str, reason: &str) -> Result<i32, StoreError> {
        const OP: &str = "revise";
        without_nul(payload)?;
        let rows = self
            .write(
                OP,
                "select switchyard.revise($1, $2, $3, $4)",
                &[
                    (&event_id, Type::UUID),
                    (&payload, Type::TEXT),
                    (&clean(operator).as_ref(), Type::TEXT),
                    (&clean(reason).as_ref(), Type::TEXT),
                ],
            )
            .await?;
        get(OP, &only(OP, rows)?, 0)
    }

    /// Adds a revision of an event that is parked for this agent, and makes its delivery due for [`Store::due`]: both in one transaction, or
    /// neither. Parked deliveries of other runs go back too. Audited, without the payload.
    ///
    /// Fails with [`StoreError::Config`], and changes nothing, if it is not parked for this agent, and as [`Store::revise`] does.
    pub async fn revise_and_redrive(
        &self,
        agent: &str,
        event_id: Uuid,
        payload: &str,
        operator: &str,
        because: &str,
    ) -> Result<Revised, StoreError> {
        const OP: &str = "revise_and_redrive";
        without_nul(payload)?;
        let rows = self
            .write(
                OP,
                "select revision, seq from switchyard.revise_and_redrive($1, $2, $3, $4, $5)",
                &[
                    (&agent, Type::TEXT),
                    (&event_id, Type::UUID),
                    (&payload, Type::TEXT),
                    (&clean(operator).as_ref(), Type::TEXT),
                    (&clean(because).as_ref(), Type::TEXT),
                ],
            )
            .await?;
        let row = only(OP, rows)?;
        Ok(Revised { revision: get(OP, &row, 0)?, seq: get(OP, &row, 1)? })
    }
}

/// Refuses a NUL, which the wire protocol cannot carry.
fn without_nul(payload: &str) -> Result<(), StoreError> {
    if payload.contains('\0') {
        return Err(StoreError::config("the payload contains a NUL, which the table cannot store"));
    }
    Ok(())
}
