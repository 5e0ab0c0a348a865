//! Leases of shards, by the database's clock.

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::outbox::shards::SHARDS;
use crate::row::{get, only};
use crate::{Shards, Store, StoreError};

/// A participant that shares shards with others.
#[derive(Clone, Debug)]
pub struct Sharer {
    /// What is shared, such as `shim`.
    pub name: &'static str,
    /// Its id, random for each participant.
    pub holder: Uuid,
    /// How many may share at once. The newest ones stay; an older one hands over and leaves.
    pub at_once: u16,
    /// How long a lease lasts without a renewal, in milliseconds, and so how long the others wait for the shards of a participant that died.
    pub lasts_ms: u32,
}

/// The shards of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The shards that it holds; all leases end at the same time.
    pub held: Shards,
    /// How long its leases last, in milliseconds from the answer. Count from before the request was sent, because the answer takes time too.
    pub until_ms_left: u64,
    /// Its fair share. A participant with more gives shards back as soon as it has no call open for them.
    pub fair: usize,
    /// Whether it stays. If not, enough newer ones exist, and it hands over and leaves.
    pub stays: bool,
    /// Whether it is the only participant.
    pub alone: bool,
}

impl Store {
    /// Joins the participants or stays one, in one round trip for all shards: gives back the shards in `back`, renews the leases that it holds, and
    /// takes free or expired ones up to its fair share.
    pub async fn share(&self, sharer: &Sharer, back: Shards) -> Result<Share, StoreError> {
        let operation = "share";
        let rows = self
            .write(
                operation,
                "select held, left_ms, fair, stays, alone from switchyard.share($1, $2, $3, $4, $5, $6)",
                &[
                    (&sharer.name, Type::TEXT),
                    (&sharer.holder, Type::UUID),
                    (&i32::from(SHARDS), Type::INT4),
                    (&i32::from(sharer.at_once), Type::INT4),
                    (&i64::from(sharer.lasts_ms), Type::INT8),
                    (&back.numbers(), Type::INT4_ARRAY),
                ],
            )
            .await?;
        let row = only(operation, rows)?;
        let held: Vec<i32> = get(operation, &row, 0)?;
        let left: i64 = get(operation, &row, 1)?;
        let fair: i32 = get(operation, &row, 2)?;
        Ok(Share {
            held: held.into_iter().filter_map(|shard| u8::try_from(shard).ok()).collect(),
            until_ms_left: left.unsigned_abs(),
            fair: usize::try_from(fair).unwrap_or(0),
            stays: get(operation, &row, 3)?,
            alone: get(operation, &row, 4)?,
        })
    }

    /// Gives all leases back and leaves. Returns `false` if [`Store::notify`] was called meanwhile: then nothing was given back, and the sharer
    /// reads the outbox once more before it asks again. With `anyway` it leaves in any case.
    pub async fn leave(&self, sharer: &Sharer, anyway: bool) -> Result<bool, StoreError> {
        let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] = &[
            (&sharer.name, Type::TEXT),
            (&sharer.holder, Type::UUID),
            (&i32::from(SHARDS), Type::INT4),
            (&anyway, Type::BOOL),
        ];
        let rows = self.write("leave", "select switchyard.leave($1, $2, $3, $4)", parameters).await?;
        get("leave", &only("leave", rows)?, 0)
    }

    /// Tells all participants to read the outbox once more before they leave for want of work. Returns whether there are any; one that died counts
    /// until its leases end.
    pub async fn notify(&self, name: &str) -> Result<bool, StoreError> {
        let rows = self.write("notify", "select switchyard.notify($1)", &[(&name, Type::TEXT)]).await?;
        get("notify", &only("notify", rows)?, 0)
    }

    /// Ends every lease. Call it only when no holder can exist, such as before the first function starts, because a live holder would go on until it
    /// renews.
    pub async fn end_leases(&self) -> Result<(), StoreError> {
        self.write("end_leases", "select switchyard.end_leases()", &[]).await.map(|_| ())
    }
}
