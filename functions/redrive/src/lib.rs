#![doc = include_str!("../README.md")]

mod agents;
mod copies;
mod dead_letter;
mod dismiss;
mod edit;
mod inspect;
mod list;
mod moves;
mod redrive;
mod scan;
mod settings;
mod subscription;
mod table;

use std::time::Duration;
use switchyard_bus::{AgentPlaces, Directory, LambdaDirectory, Moves, Queue, SqsMoves, SqsQueue};
use switchyard_operations::redrive::{Audited, Automatic, Failures, Request};
use switchyard_runtime::{Invocation, Json, StartError};
use switchyard_store::{AutoRedrive, Store, StoreError};
use tokio::time::Instant;

/// What is kept of an invocation's time for the audit row and the answer.
const RESERVE: Duration = Duration::from_secs(5);

/// Everything that a redrive needs, made once per process.
pub struct Redriver<D, M, Q> {
    /// The ledger and the table.
    pub store: Store,
    /// Whose queues are where.
    pub directory: D,
    /// Move tasks.
    pub moves: M,
    /// A queue by its URL.
    pub open: Box<dyn Fn(&str) -> Q + Send + Sync>,
}

/// Reads the configuration and makes the clients, once per process.
///
/// # Errors
/// [`StartError`] for a setting that is missing or wrong.
pub async fn start() -> Result<Redriver<LambdaDirectory, SqsMoves, SqsQueue>, StartError> {
    settings::redriver().await
}

/// One invocation.
///
/// # Errors
/// One line for the person who asked: what is wrong with the request, or what did not answer. What was done by then is in the audit.
pub async fn handle<D: Directory, M: Moves, Q: Queue>(
    redriver: &Redriver<D, M, Q>,
    event: Json,
    invocation: Invocation,
) -> Result<Json, String> {
    let ends = invocation.deadline.checked_sub(RESERVE).unwrap_or_else(Instant::now);
    redriver.answer(Request::parse(event)?, ends).await
}

impl<D: Directory, M: Moves, Q: Queue> Redriver<D, M, Q> {
    /// Carries out one request, by `ends`.
    ///
    /// # Errors
    /// As [`handle`].
    pub async fn answer(&self, request: Request, ends: Instant) -> Result<Json, String> {
        match request {
            Request::List {} => json(&self.list().await?),
            Request::Inspect { agent, selection, at_most } => {
                json(&self.inspect(&agent, &selection, usize::from(at_most), ends).await?)
            }
            Request::Redrive(redrive) => json(&self.redrive(&redrive, ends).await?),
            Request::Progress { agent } => json(&self.progress(&agent).await?),
            Request::Cancel { agent, operator } => json(&self.cancel(&agent, &operator, ends).await?),
            Request::Edit { agent, event_id, payload, operator, reason } => {
                let edit =
                    edit::Edit { agent: &agent, event_id, payload: &payload, operator: &operator, reason: &reason };
                json(&self.edit(&edit, ends).await?)
            }
            Request::Dismiss(dismiss) => json(&self.dismiss(&dismiss, ends).await?),
            Request::Auto { agent, times, first_after_secs, operator } => {
                let auto = (times > 0).then_some(AutoRedrive { times, first_after_secs });
                self.place(&agent).await?;
                self.store.set_auto_redrive(&agent, auto, &operator).await.map_err(words)?;
                json(&Automatic { agent, times, first_after_secs })
            }
            Request::Failures { agent, at_most } => {
                self.place(&agent).await?;
                let failures = self.store.failures(&agent, i64::from(at_most)).await.map_err(words)?;
                json(&Failures { agent, failures })
            }
            Request::Audit { at_most } => {
                json(&Audited { audit: self.store.audit(i64::from(at_most)).await.map_err(words)? })
            }
        }
    }

    /// Where an agent's queues are.
    async fn place(&self, agent: &str) -> Result<AgentPlaces, String> {
        let places = Box::pin(self.directory.places()).await.map_err(|error| error.to_string())?;
        agents::named(&places.agents, agent).cloned().map_err(|unknown| {
            // One of these queues may be the agent's.
            [unknown].into_iter().chain(places.troubles.iter().cloned()).collect::<Vec<_>>().join("; ")
        })
    }

    /// Whether the ledger knows this name: the way in for publishers has a dead-letter queue and no deliveries.
    async fn has_ledger(&self, agent: &str) -> Result<bool, String> {
        Ok(self.store.agents().await.map_err(words)?.iter().any(|name| name == agent))
    }
}

fn json(answer: &impl serde::Serialize) -> Result<Json, String> {
    serde_json::to_value(answer).map_err(|error| error.to_string())
}

/// A database error as the person who asked reads it.
fn words(error: StoreError) -> String {
    tracing::warn!(%error, "the database refused or did not answer");
    error.to_string()
}
