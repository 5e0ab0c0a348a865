//! The database as an agent sees it: its own tables, and errors that already say what happens next.

use std::collections::HashSet;
use switchyard_agent::{Refusal, Reject};
use switchyard_event::Reason;
use switchyard_store::{AppendEvent, Ask, ClaimAnswer, Overwrite, Row, Settlement, Store, StoreError, ToSql, Type};
use tokio::time::Instant;

/// Reads outside of a transaction, for `gather`.
#[derive(Clone)]
pub struct Database {
    store: Store,
}

impl Database {
    pub(crate) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Rows of the application's tables. One round trip, no session state.
    ///
    /// # Errors
    /// [`Refusal::DatabaseDown`] where it is, [`Refusal::Retry`] for what it does not accept.
    pub async fn query(&self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, Refusal> {
        self.store.query(sql, parameters).await.map_err(refusal_of)
    }
}

/// The one transaction of a commit. It ends with the batch: an agent can neither commit nor roll back.
pub struct Tx {
    inner: switchyard_store::Tx,
}

impl Tx {
    /// Rows of the application's tables, read or written inside the transaction.
    ///
    /// # Errors
    /// As [`Database::query`]; after any error the transaction can only be undone.
    pub async fn query(&mut self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, Refusal> {
        self.inner.query(sql, parameters).await.map_err(refusal_of)
    }

    /// Writes to the application's tables; returns the number of rows.
    ///
    /// # Errors
    /// As [`Tx::query`].
    pub async fn execute(&mut self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64, Refusal> {
        self.inner.execute(sql, parameters).await.map_err(refusal_of)
    }

    pub(crate) async fn begin(store: &Store, deadline: Instant) -> Result<Self, Refusal> {
        let limit = deadline.saturating_duration_since(Instant::now());
        Ok(Self { inner: store.begin_within(limit).await.map_err(refusal_of)? })
    }

    pub(crate) async fn claim(&mut self, agent: &str, asks: &[Ask]) -> Result<Vec<ClaimAnswer>, Refusal> {
        self.inner.claim(agent, asks).await.map_err(refusal_of)
    }

    /// Which records are too late, by what they overwrite.
    pub(crate) async fn superseded(
        &mut self,
        agent: &str,
        overwrites: &[Overwrite<'_>],
    ) -> Result<HashSet<usize>, Refusal> {
        if switchyard_faults::bug("no_sequence_gate") {
            return Ok(HashSet::new());
        }
        self.inner.superseded(agent, overwrites).await.map_err(refusal_of)
    }

    pub(crate) async fn settle(
        &mut self,
        agent: &str,
        asks: &[Ask],
        settlement: Settlement,
        why: &str,
    ) -> Result<(), Refusal> {
        self.inner.settle(agent, asks, settlement, why).await.map_err(refusal_of)
    }

    pub(crate) async fn shadow(&mut self, agent: &str, decisions: &[(Ask, String)]) -> Result<(), Refusal> {
        self.inner.shadow(agent, decisions).await.map_err(refusal_of)
    }

    pub(crate) async fn append(&mut self, events: &[AppendEvent]) -> Result<(), Refusal> {
        if !events.is_empty() {
            self.inner.append(events).await.map_err(refusal_of_append)?;
        }
        Ok(())
    }

    pub(crate) async fn commit(self) -> Result<(), Refusal> {
        self.inner.commit().await.map_err(refusal_of)
    }
}

/// An id that is taken stays taken: no retry helps.
fn refusal_of_append(error: StoreError) -> Refusal {
    if error.is_forged() {
        let detail = "an event that the agent emits is in the table already, with other content";
        return Reject::new(Reason::Forged.as_str(), detail).into();
    }
    refusal_of(error)
}

/// What a store error means for the event at hand. A missing grant or registration costs no attempt: an operator must act, and the events wait
/// for that. No error of the database makes an event permanently bad by itself: a constraint may be satisfied a moment later, and what
/// never is runs out of attempts with the reason kept.
pub(crate) fn refusal_of(error: StoreError) -> Refusal {
    match &error {
        StoreError::Unavailable { .. } | StoreError::Config { .. } => Refusal::DatabaseDown(error.to_string()),
        StoreError::Conflict { .. } => Refusal::Conflict(error.to_string()),
        _ => Refusal::retry(error.to_string()),
    }
}
