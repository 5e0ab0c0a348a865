//! Who may work on which shards just now, by the database's clock.

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::outbox::shards::SHARDS;
use crate::row::{get, only};
use crate::{Shards, Store, StoreError};

/// Somebody who takes part in sharing the shards of something.
#[derive(Clone, Debug)]
pub struct Sharer {
    /// What is shared, such as `shim`.
    pub name: &'static str,
    /// Who it is: drawn anew for each that takes part.
    pub holder: Uuid,
    /// How many may share at once. The newest so many stay; an older one is to hand over and leave.
    pub at_once: u16,
    /// How long a lease lasts without a renewal, in milliseconds: how long one that died keeps the others waiting.
    pub lasts_ms: u32,
}

/// What somebody holds of what is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The shards that are the asker's, all of them until the same time.
    pub held: Shards,
    /// How long its leases last, in milliseconds at the moment of the answer. Count from before the question was sent: the way back takes
    /// time too.
    pub until_ms_left: u64,
    /// How many would be fair. Who holds more is to give back the rest, as soon as nothing is on its way for it.
    pub fair: usize,
    /// Whether it may stay. One that may not hands over and leaves, since enough newer ones are there.
    pub stays: bool,
    /// Whether nobody else takes part.
    pub alone: bool,
}

impl Store {
    /// Takes part, in one round trip for all shards: gives back what is in `back`, renews what the sharer holds, and takes what is free or has
    /// run out, up to a fair share.
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

    /// Gives everything back and takes part no more. `false` where somebody has notified it meanwhile: then nothing was given back, and the sharer
    /// is to look once more before it asks again. With `anyway` it leaves all the same.
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

    /// Whether somebody takes part already. Whoever does looks once more before it leaves for want of work; one that has died without a word
    /// counts as being there until its leases have run out.
    pub async fn notify(&self, name: &str) -> Result<bool, StoreError> {
        let rows = self.write("notify", "select switchyard.notify($1)", &[(&name, Type::TEXT)]).await?;
        get("notify", &only("notify", rows)?, 0)
    }

    /// Ends every lease, whoever holds it. Only where nobody can be holding one, such as before the first function starts: a holder that
    /// lives would go on until it renews.
    pub async fn end_leases(&self) -> Result<(), StoreError> {
        let sql = "with sharers as (delete from switchyard.participant) update switchyard.lease set holder = null";
        self.write("end_leases", sql, &[]).await.map(|_| ())
    }
}
