//! Claims and previews: what is asked, and the answers.

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use switchyard_operations::words;

use crate::row::{count, get, word};
use crate::{BreakerState, Store, StoreError};

/// One question: this event, in this run, for an agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// The event.
    pub event_id: Uuid,
    /// 0 is live; above 0 a replay or a backfill.
    pub run: i32,
    /// The epoch in the message or in an earlier [`ClaimAnswer`]. A report from an older epoch changes nothing; `None` reports on the row's present
    /// epoch.
    pub epoch: Option<i32>,
}

impl Ask {
    /// A live event.
    pub fn live(event_id: Uuid) -> Self {
        Self { event_id, run: 0, epoch: None }
    }
}

/// The answer to an [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The agent's: after a claim, done when its transaction commits.
    Take,
    /// The old system's, and the agent is in shadow mode: decide, store the decision, apply nothing.
    Shadow,
    /// The other side's.
    NotYours,
    /// Settled before: done, superseded or expired.
    AlreadyDone,
    /// Parked: only a redrive brings it back.
    Parked,
    /// The agent does not subscribe to this type, or did not at that time.
    NotSubscribed,
    /// Not in the event log.
    Unknown,
    /// The run does not include this event.
    UnknownRun,
    /// Below the floor: never run again.
    TooOld,
    /// The body does not have the seal of this database, so it was not made from the table. Only [`Store::preview_bodies`] answers it.
    Forged,
}

/// What shows that a message's body was made from the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The SHA-256 of the body without its seal.
    pub digest: Vec<u8>,
    /// The seal; empty if the body has none.
    pub seal: String,
}

/// What the ledger says about an event and an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimAnswer {
    /// The event asked about.
    pub event_id: Uuid,
    /// The run asked about.
    pub run: i32,
    /// The answer.
    pub verdict: Verdict,
    /// Its place in the event log; `None` for an unknown event.
    pub seq: Option<i64>,
    /// Increases with every redrive and every change of owner.
    pub epoch: i32,
    /// How many attempts have failed.
    pub attempts: u16,
    /// How many attempts it may have: the event's own number (1 to 100), or the agent's.
    pub max_attempts: u16,
    /// How often its messages were returned without an attempt ([`Store::returned`]) since the attempts last started at 0.
    pub returns: u16,
    /// The newest revision of its payload; 0 if it was never edited.
    pub revision: i32,
    /// Whether the runtime appends what the agent emits for it. In a replay it does not, because the agent emitted it when the event was live.
    pub emits: bool,
}

/// The answer to [`Store::preview`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// Where each event stands, in the order of the asks.
    pub answers: Vec<ClaimAnswer>,
    /// The agent's breaker, as of the same moment.
    pub breaker: BreakerState,
}

/// What a claimed event is settled as, other than done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// A newer event of its aggregate was applied already.
    Superseded,
    /// The event is not needed any more.
    Expired,
    /// An operator must look at it.
    Parked,
}

words!(Settlement { Superseded = "s", Expired = "e", Parked = "p" });

impl Store {
    /// Returns what a claim would answer now, and the agent's breaker, in one round trip, without a lock or a write. Without asks it sends nothing,
    /// and answers with a closed breaker.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn preview(&self, agent: &str, asks: &[Ask]) -> Result<Preview, StoreError> {
        self.previewed(agent, asks, None).await
    }

    /// The same for messages: the answer for a body without its event's seal is [`Verdict::Forged`]. `seals` has one for each ask.
    ///
    /// Fails as [`Store::preview`].
    pub async fn preview_bodies(&self, agent: &str, asks: &[Ask], seals: &[Seal]) -> Result<Preview, StoreError> {
        self.previewed(agent, asks, Some(seals)).await
    }

    async fn previewed(&self, agent: &str, asks: &[Ask], seals: Option<&[Seal]>) -> Result<Preview, StoreError> {
        if asks.is_empty() {
            return Ok(Preview { answers: Vec::new(), breaker: BreakerState::Closed });
        }
        let (events, runs) = columns(asks);
        let digests: Option<Vec<&[u8]>> = seals.map(|seals| seals.iter().map(|seal| seal.digest.as_slice()).collect());
        let seals: Option<Vec<&str>> = seals.map(|seals| seals.iter().map(|seal| seal.seal.as_str()).collect());
        let rows = self
            .read(
                "preview",
                "select verdict, seq, epoch, attempts, max_attempts, returns, revision, emits, (select switchyard.breaker_state($1))
                   from switchyard.preview($1, $2, $3, $4, $5) order by ord",
                &[
                    (&agent, Type::TEXT),
                    (&events, Type::UUID_ARRAY),
                    (&runs, Type::INT4_ARRAY),
                    (&digests, Type::BYTEA_ARRAY),
                    (&seals, Type::TEXT_ARRAY),
                ],
            )
            .await?;
        let answers = answers("preview", asks, &rows)?;
        let breaker =
            rows.first().map_or(Ok(BreakerState::Closed), |row| word("preview", row, 8, BreakerState::named))?;
        Ok(Preview { answers, breaker })
    }
}

pub(crate) fn columns(asks: &[Ask]) -> (Vec<Uuid>, Vec<i32>) {
    asks.iter().map(|a| (a.event_id, a.run)).unzip()
}

pub(crate) fn answers(operation: &'static str, asks: &[Ask], rows: &[Row]) -> Result<Vec<ClaimAnswer>, StoreError> {
    if rows.len() != asks.len() {
        return Err(StoreError::bug(operation, "another number of answers than of questions"));
    }
    asks.iter()
        .zip(rows)
        .map(|(ask, row)| {
            Ok(ClaimAnswer {
                event_id: ask.event_id,
                run: ask.run,
                verdict: word(operation, row, 0, Verdict::named)?,
                seq: get(operation, row, 1)?,
                epoch: get(operation, row, 2)?,
                attempts: count(get(operation, row, 3)?),
                max_attempts: count(get(operation, row, 4)?),
                returns: count(get(operation, row, 5)?),
                revision: get(operation, row, 6)?,
                emits: get(operation, row, 7)?,
            })
        })
        .collect()
}

words!(Verdict {
    Take = "take",
    Shadow = "shadow",
    NotYours = "not_yours",
    AlreadyDone = "already_done",
    Parked = "parked",
    NotSubscribed = "not_subscribed",
    Unknown = "unknown",
    UnknownRun = "unknown_run",
    TooOld = "too_old",
    Forged = "forged",
});
