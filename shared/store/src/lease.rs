//! Who may work on something just now, by the database's clock.

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::claim::get;
use crate::store::only;
use crate::{Store, StoreError};

/// The answer to a request for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whether the asker holds it.
    pub held: bool,
    /// How long it lasts, whoever holds it, in milliseconds at the moment of the answer. Count from before the question was sent: the way
    /// back takes time too.
    pub until_ms_left: u64,
    /// For its holder: another one has asked for it since.
    pub wanted: bool,
}

impl Store {
    /// Acquires a lease that is free or has run out, or renews one's own.
    pub async fn lease(&self, name: &str, holder: Uuid, ttl_secs: u32) -> Result<Lease, StoreError> {
        let ttl_ms = i64::from(ttl_secs) * 1_000;
        let rows = self
            .write(
                "lease",
                "select held, left_ms, wanted from switchyard.lease($1, $2, $3)",
                &[(&name, Type::TEXT), (&holder, Type::UUID), (&ttl_ms, Type::INT8)],
            )
            .await?;
        let row = only("lease", rows)?;
        let left: i64 = get("lease", &row, 1)?;
        Ok(Lease { held: get("lease", &row, 0)?, until_ms_left: left.unsigned_abs(), wanted: get("lease", &row, 2)? })
    }

    /// Gives a lease back; returns whether it was held.
    pub async fn release(&self, name: &str, holder: Uuid) -> Result<bool, StoreError> {
        let rows = self
            .write("release", "select switchyard.release($1, $2)", &[(&name, Type::TEXT), (&holder, Type::UUID)])
            .await?;
        get("release", &only("release", rows)?, 0)
    }

    /// Ends every lease, whoever holds it. Only where nobody can be holding one, such as before the first function starts: a holder that
    /// lives would go on until it renews.
    pub async fn end_leases(&self) -> Result<(), StoreError> {
        self.write("end_leases", "delete from switchyard.lease", &[]).await.map(|_| ())
    }
}
