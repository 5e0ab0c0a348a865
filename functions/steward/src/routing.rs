//! The lever of a migration, moved when somebody asks: whose turn it is, and which projects are beyond the percentage.

mod request;

pub use request::{Pin, RouteRequest};

use serde::{Deserialize, Serialize};
use switchyard_store::{CutoverState, Lever, Moves, Routing, Store, StoreError};
use tokio::time::Instant;

/// To `routing` and `pin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routed {
    /// The agent.
    pub agent: String,
    /// `off`, `shadow`, `percent` or `full`.
    pub mode: String,
    /// The agent's share before any pin.
    pub percent: u8,
    /// Whether unfinished deliveries follow every change.
    pub drain: bool,
    /// Whether the agent decides in shadow what the old system owns although there is a percentage.
    pub beside: bool,
    /// Projects that are the agent's while there is a percentage.
    pub pinned_new: Vec<String>,
    /// Projects that are the old system's while there is a percentage.
    pub pinned_old: Vec<String>,
    /// Goes up with every change.
    pub version: i32,
    /// Unfinished and parked deliveries, by what this routing says of them.
    pub moves: Moves,
    /// What has followed the change at once, where it drains.
    pub moved: Option<Moved>,
    /// How a cutover plan of the agent stands that is under way: a change of its routing holds it.
    pub cutover: Option<CutoverState>,
}

/// Deliveries that have followed a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// How many.
    pub deliveries: i64,
    /// Whether there was time for all that nobody was working on.
    pub all: bool,
}

/// Shows or moves the lever. Where it drains, what is unfinished follows at once, as far as there is time; the sweeps go on with it.
///
/// # Errors
/// [`StoreError::Config`] where there is no such agent, else as the store's. A change stays made where what follows it fails.
pub async fn route(store: &Store, request: RouteRequest, ends: Instant) -> Result<Routed, StoreError> {
    let RouteRequest { agent, mode, drain, beside, operator } = request;
    match mode {
        Some(mode) => {
            let to = Lever { mode, drain: drain.unwrap_or(false), beside: beside.unwrap_or(false) };
            store.set_routing(&agent, to, &operator).await?;
        }
        None if drain.is_none() && beside.is_none() => {
            let now = store.routing(&agent).await?;
            return routed(store, agent, now, None).await;
        }
        None => store.set_following(&agent, drain, beside, &operator).await?,
    }
    tracing::info!(agent, operator, ?mode, drain, beside, "its routing was set");
    followed(store, agent, ends).await
}

/// Pins a project, or lets go of it. As [`route`].
///
/// # Errors
/// As [`route`].
pub async fn pin(store: &Store, request: Pin, ends: Instant) -> Result<Routed, StoreError> {
    let Pin { agent, project, to, operator } = request;
    store.pin(&agent, &project, to, &operator).await?;
    tracing::info!(agent, operator, project, ?to, "a project of it was pinned");
    followed(store, agent, ends).await
}

async fn followed(store: &Store, agent: String, ends: Instant) -> Result<Routed, StoreError> {
    let now = store.routing(&agent).await?;
    let moved = if now.drain { Some(reassign(store, &agent, ends).await?) } else { None };
    routed(store, agent, now, moved).await
}

async fn routed(store: &Store, agent: String, now: Routing, moved: Option<Moved>) -> Result<Routed, StoreError> {
    let moves = store.routing_moves(&agent).await?;
    let Routing { mode, drain, beside, pinned_new, pinned_old, version } = now;
    let (mode, percent) = (mode.name().to_owned(), mode.percent());
    let plan = store.cutover(&agent).await?.filter(|plan| plan.ended_at.is_none());
    let cutover = plan.map(|plan| plan.state);
    Ok(Routed { agent, mode, percent, drain, beside, pinned_new, pinned_old, version, moves, moved, cutover })
}

/// Gives unfinished deliveries to whom the routing of now names, until `ends`.
pub(crate) async fn reassign(store: &Store, agent: &str, ends: Instant) -> Result<Moved, StoreError> {
    let done = store.reassign_until(agent, Some(ends)).await?;
    Ok(Moved { deliveries: done.moved, all: !done.more })
}
