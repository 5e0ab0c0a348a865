//! The routing of an agent: which side owns its events, and which projects are pinned.

use switchyard_operations::routing::{Moved, Pin, RouteRequest, Routed};
use switchyard_store::{Routing, RoutingChange, Store, StoreError};
use tokio::time::Instant;

/// Shows or moves the lever. Where it drains, what is unfinished follows at once, as far as there is time; the sweeps go on with it.
///
/// # Errors
/// [`StoreError::Config`] where there is no such agent, else as the store's. A change stays made where what follows it fails.
pub async fn route(store: &Store, request: RouteRequest, ends: Instant) -> Result<Routed, StoreError> {
    let RouteRequest { agent, mode, drain, beside, operator } = request;
    match mode {
        Some(mode) => {
            let to = RoutingChange { mode, drain: drain.unwrap_or(false), beside: beside.unwrap_or(false) };
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
