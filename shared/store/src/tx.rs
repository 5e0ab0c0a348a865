//! A transaction that cannot commit what it should not.

use std::collections::HashSet;
use std::time::Duration;

use deadpool_postgres::Object;
use futures_util::FutureExt as _;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::ledger::claim::{self, Ask, ClaimAnswer, Settlement};
use crate::outbox::append::{self, AppendEvent};
use crate::row::{clean, get, only};
use crate::{Store, StoreError};

/// A transaction, READ COMMITTED, on a connection of its own. Dropping it rolls back.
///
/// After any statement has failed (or was abandoned half way) [`Tx::commit`] refuses: Postgres would answer such a COMMIT
/// with a silent rollback. A lock is waited for five seconds ([`StoreError::Conflict`]), and a transaction that sits idle
/// for a minute is ended by the server, so that a frozen function holds no locks.
pub struct Tx {
    /// None after a commit or rollback.
    connection: Option<Object>,
    /// How long one statement may run, by the database's clock.
    limit: Option<Duration>,
    begun: bool,
    /// True while a statement is under way, and after one has failed or was abandoned.
    suspect: bool,
}

/// A state that a record of a batch overwrites, for [`Tx::superseded`].
#[derive(Clone, Copy, Debug)]
pub struct Overwrite<'a> {
    /// Any number that names the record within its batch.
    pub record: usize,
    /// What kind of state it is.
    pub aggregate_type: &'a str,
    /// Which one of its kind.
    pub aggregate_id: &'a str,
    /// The sequence of the record's event.
    pub seq: i64,
}

const BEGIN: &str = "begin isolation level read committed; set local lock_timeout = '5s'; set local idle_in_transaction_session_timeout = '60s'";

impl Store {
    /// Begins a transaction. Takes a connection from the pool; BEGIN travels with the first statement.
    ///
    /// Fails with [`StoreError::Unavailable`] when no connection can be had within ten seconds.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(Tx::new(self.connection().await?, None))
    }

    /// The same, and the server cancels any statement that runs for longer than `limit`. A transaction that is dropped during a statement holds its
    /// locks until the server has finished the statement, so a caller with a deadline sets a limit.
    ///
    /// Fails as [`Store::begin`]. A statement that ran for too long is [`StoreError::Unavailable`].
    pub async fn begin_within(&self, limit: Duration) -> Result<Tx, StoreError> {
        Ok(Tx::new(self.connection().await?, Some(limit)))
    }
}

impl Tx {
    fn new(connection: Object, limit: Option<Duration>) -> Self {
        Self { connection: Some(connection), limit, begun: false, suspect: false }
    }

    /// Claims a batch for the agent, in one round trip and in the order of the sequences. Returns the answers in the order of the asks. A delivery
    /// with [`Verdict::Take`](crate::Verdict::Take) is done if and only if this transaction commits. From then on the triggers on the application's tables do
    /// nothing in this transaction, because the agent emits its own events.
    ///
    /// Fails with [`StoreError::Conflict`] if another transaction was in the way, and with [`StoreError::Config`] if the agent is not registered.
    pub async fn claim(&mut self, agent: &str, asks: &[Ask]) -> Result<Vec<ClaimAnswer>, StoreError> {
        let (events, runs) = claim::columns(asks);
        let rows = self
            .send(
                "claim",
                "select verdict, seq, epoch, attempts, max_attempts, returns, revision, emits from switchyard.claim_batch($1, $2, $3, 'n') order by ord",
                &[(&agent, Type::TEXT), (&events, Type::UUID_ARRAY), (&runs, Type::INT4_ARRAY)],
            )
            .await?;
        claim::answers("claim", asks, &rows)
    }

    /// Settles deliveries that were claimed in this transaction as something other than done, in one statement.
    ///
    /// Fails with [`StoreError::Bug`] for what this transaction has not claimed; the transaction is lost then.
    pub async fn settle(
        &mut self,
        agent: &str,
        asks: &[Ask],
        settlement: Settlement,
        reason: &str,
    ) -> Result<(), StoreError> {
        if asks.is_empty() {
            return Ok(());
        }
        let (events, runs) = claim::columns(asks);
        self.send(
            "settle",
            "select switchyard.settle($1, u.event_id, u.run, $4::text::\"char\", $5) from unnest($2, $3) u (event_id, run)",
            &[
                (&agent, Type::TEXT),
                (&events, Type::UUID_ARRAY),
                (&runs, Type::INT4_ARRAY),
                (&settlement.name(), Type::TEXT),
                (&clean(reason).as_ref(), Type::TEXT),
            ],
        )
        .await?;
        Ok(())
    }

    /// A statement on the agent's own tables that returns rows.
    ///
    /// Fails as [`StoreError`] says; the transaction is lost then.
    pub async fn query(
        &mut self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, StoreError> {
        self.send("a query of the agent", sql, parameters).await
    }

    /// A statement on the agent's own tables; returns how many rows it touched.
    ///
    /// Fails as [`StoreError`] says; the transaction is lost then.
    pub async fn execute(&mut self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64, StoreError> {
        let operation = "a statement of the agent";
        self.guarded(operation, |connection| connection.execute_typed(sql, parameters)).await
    }

    /// Returns the records of a batch that are superseded, in one statement: those that overwrite a state to which this agent has applied a newer
    /// sequence. For the other records it sets the gates to their sequences. Ask before an effect that overwrites state, and settle superseded
    /// records as [`Settlement::Superseded`]. The same sequence passes again, because a replay repeats its effect and an event may have two; the
    /// claim makes each happen once. Two records of one batch do not supersede each other: the caller applies them in the order of the log.
    ///
    /// Fails with [`StoreError::Conflict`] if another transaction was in the way; the transaction is lost then.
    pub async fn superseded(
        &mut self,
        agent: &str,
        overwrites: &[Overwrite<'_>],
    ) -> Result<HashSet<usize>, StoreError> {
        if overwrites.is_empty() {
            return Ok(HashSet::new());
        }
        let records: Vec<i64> = overwrites.iter().map(|one| i64::try_from(one.record).unwrap_or(i64::MAX)).collect();
        let types: Vec<&str> = overwrites.iter().map(|one| one.aggregate_type).collect();
        let ids: Vec<&str> = overwrites.iter().map(|one| one.aggregate_id).collect();
        let seqs: Vec<i64> = overwrites.iter().map(|one| one.seq).collect();
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&agent, Type::TEXT),
            (&records, Type::INT8_ARRAY),
            (&types, Type::TEXT_ARRAY),
            (&ids, Type::TEXT_ARRAY),
            (&seqs, Type::INT8_ARRAY),
        ];
        let rows = self.send("gate", "select switchyard.pass_gates($1, $2, $3, $4, $5)", &parameters).await?;
        let late: Vec<i64> = get("gate", &only("gate", rows)?, 0)?;
        Ok(late.into_iter().filter_map(|record| usize::try_from(record).ok()).collect())
    }

    /// Appends events in one statement, and skips an id that exists. Returns how many were new.
    ///
    /// Fails with [`StoreError::Refused`] if the table cannot store one of them (a payload with an escaped NUL, an aggregate id that is not a UUID);
    /// the transaction is lost then.
    pub async fn append(&mut self, events: &[AppendEvent]) -> Result<u64, StoreError> {
        if events.is_empty() {
            return Ok(0);
        }
        let columns = append::Columns::of(events);
        let rows = self.send("append", append::SQL, &columns.parameters()).await?;
        append::count(rows)
    }

    /// Stores what an agent in shadow mode decided, in one round trip. A second call counts the repetition, and replaces a decision that was not
    /// compared with the old system yet.
    ///
    /// Fails with [`StoreError::Refused`] if a decision is not JSON.
    pub async fn shadow(&mut self, agent: &str, decisions: &[(Ask, String)]) -> Result<(), StoreError> {
        if decisions.is_empty() {
            return Ok(());
        }
        let events: Vec<Uuid> = decisions.iter().map(|(ask, _)| ask.event_id).collect();
        let runs: Vec<i32> = decisions.iter().map(|(ask, _)| ask.run).collect();
        let texts: Vec<&str> = decisions.iter().map(|(_, decision)| decision.as_str()).collect();
        self.send(
            "shadow",
            "select switchyard.store_decisions($1, $2, $3, $4)",
            &[(&agent, Type::TEXT), (&events, Type::UUID_ARRAY), (&runs, Type::INT4_ARRAY), (&texts, Type::TEXT_ARRAY)],
        )
        .await?;
        Ok(())
    }

    /// Commits.
    ///
    /// Fails with [`StoreError::Bug`], after a rollback, if any statement of this transaction has failed. After [`StoreError::Unavailable`] it is
    /// not known whether the commit took effect; asking for the same events again shows it.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        if self.suspect {
            return Err(StoreError::bug("commit", "a statement of this transaction had failed: rolled back"));
        }
        if self.begun {
            self.guarded("commit", |connection| connection.batch_execute("commit")).await?;
        }
        // Back to the pool.
        self.connection = None;
        Ok(())
    }

    /// Rolls back. Dropping does so too, without waiting for it.
    pub async fn rollback(mut self) -> Result<(), StoreError> {
        if self.begun {
            // A failed statement is what rollback is for; one that was abandoned is simply waited for.
            self.suspect = false;
            self.guarded("rollback", |connection| connection.batch_execute("rollback")).await?;
        }
        self.connection = None;
        Ok(())
    }

    async fn send(
        &mut self,
        operation: &'static str,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, StoreError> {
        self.guarded(operation, |connection| connection.query_typed(sql, parameters)).await
    }

    /// Runs one statement, with BEGIN before it in the same round trip where it is the first.
    async fn guarded<'c, T, F>(
        &'c mut self,
        operation: &'static str,
        statement: impl FnOnce(&'c Object) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        if self.suspect {
            return Err(StoreError::bug(operation, "an earlier statement of this transaction had failed"));
        }
        let Some(connection) = self.connection.as_ref() else {
            return Err(StoreError::bug(operation, "the transaction has ended"));
        };
        self.suspect = true;
        let answer = if self.begun {
            statement(connection).await
        } else {
            self.begun = true;
            let begin = match self.limit {
                // At least a millisecond: zero would mean no limit.
                Some(limit) => format!("{BEGIN}; set local statement_timeout = {}", limit.as_millis().max(1)),
                None => BEGIN.to_owned(),
            };
            // Both are queued by their first poll, in this order, so that they travel together.
            let (begun, answer) = tokio::join!(biased; connection.batch_execute(&begin), statement(connection));
            begun.and(answer)
        };
        let answer = answer.map_err(|e| StoreError::from_postgres(operation, e))?;
        self.suspect = false;
        Ok(answer)
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if self.suspect {
            // A statement may still be running: leave the pool, and let the server end it with the connection.
            drop(Object::take(connection));
        } else if self.begun {
            // Queued by its first poll, so that it runs before whatever the pool's next user sends.
            let _ = connection.batch_execute("rollback").now_or_never();
        }
    }
}
