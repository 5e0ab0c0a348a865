//! Cutover plans: what the steward does about them in each pass, and for a request.

mod decide;

pub use decide::decide;

use crate::routing;
use decide::listed;
use switchyard_operations::{
    cutover::{Act, Cutover, CutoverAnswer, CutoverRequest, Judged, Measured, Share, Step},
    routing::Moved,
};
use switchyard_store::{Store, StoreError};
use tokio::time::Instant;

/// Who the audit names for what a limit has done.
const STEWARD: &str = "steward";

/// Answers a request.
///
/// # Errors
/// [`StoreError::Config`] where there is no such agent, or its plan is in no state for this; else as the store's.
pub async fn answer(store: &Store, request: CutoverRequest, ends: Instant) -> Result<CutoverAnswer, StoreError> {
    let CutoverRequest { agent, act, plan, because, operator } = request;
    let mut moved = None;
    match (act, plan) {
        (Act::Start, Some(plan)) => store.start_cutover(&agent, &plan, &operator).await?,
        (Act::Start | Act::Status, _) => {}
        (Act::Pause, _) => {
            store.pause_cutover(&agent, &or_default(because, "paused by an operator"), &operator).await?
        }
        (Act::Resume, _) => store.resume_cutover(&agent, &operator).await?,
        (Act::RollBack, _) => {
            store.roll_back_cutover(&agent, &or_default(because, "rolled back by an operator"), &operator).await?;
            moved = Some(routing::reassign(store, &agent, ends).await?);
        }
    }
    if act != Act::Status {
        tracing::info!(agent, operator, ?act, "an operator has moved the cutover");
    }
    status(store, agent, moved).await
}

async fn status(store: &Store, agent: String, moved: Option<Moved>) -> Result<CutoverAnswer, StoreError> {
    let cutover = store.cutover(&agent).await?;
    let under_way = cutover.as_ref().filter(|plan| plan.ended_at.is_none());
    let measured = match under_way {
        Some(plan) => Some(measure(store, plan).await?),
        None => None,
    };
    let next = under_way.zip(measured.as_ref()).map(|(plan, measured)| decide(plan, measured));
    let moves = store.routing_moves(&agent).await?;
    Ok(CutoverAnswer { agent, cutover, measured, next, moves, moved })
}

/// One look at a plan, and what follows from it. A roll-back gives the old system at once what the agent has not finished; what is being worked on
/// follows with the next sweeps.
pub(crate) async fn judge(store: &Store, plan: &Cutover, ends: Instant) -> Result<Judged, StoreError> {
    let measured = measure(store, plan).await?;
    let step = decide(plan, &measured);
    let figures = serde_json::to_string(&measured).unwrap_or_else(|_| "null".to_owned());
    let done = match &step {
        Step::Stay | Step::Wait(_) => false,
        Step::Advance => store.advance_cutover(plan, &figures, STEWARD).await?,
        Step::Pause(breaches) => store.pause_cutover_at(plan, &listed(breaches), &figures, STEWARD).await?,
        Step::RollBack(breaches) => {
            let done = store.roll_back_cutover_at(plan, &listed(breaches), &figures, STEWARD).await?;
            // It is rolled back, whatever becomes of this: every sweep goes on with it.
            if done && let Err(error) = routing::reassign(store, &plan.agent, ends).await {
                let agent = &plan.agent;
                tracing::warn!(agent, %error, "what it has not finished could not all be given back at once");
            }
            done
        }
    };
    let percent = plan.plan.steps.get(plan.step).map_or(0, |step| step.percent);
    Ok(Judged { agent: plan.agent.clone(), percent, measured, step, done })
}

/// The line for the operator about a plan that a limit has stopped.
pub(crate) fn trouble(judged: &Judged) -> Option<String> {
    let Judged { agent, percent, step, .. } = judged;
    match step {
        Step::Pause(breaches) if judged.done => {
            Some(format!("the cutover of {agent} is paused at {percent} percent: {}", listed(breaches)))
        }
        Step::RollBack(breaches) if judged.done => {
            Some(format!("the cutover of {agent} was rolled back from {percent} percent: {}", listed(breaches)))
        }
        _ => None,
    }
}

/// The figures of a plan's present step.
async fn measure(store: &Store, plan: &Cutover) -> Result<Measured, StoreError> {
    let figures = store.cutover_figures(&plan.agent).await?;
    let failures = Some(Share { bad: figures.failed, of: figures.failed + figures.settled });
    let measured = Measured { failures, lag_secs: Some(figures.lag_secs), ..Measured::default() };
    if plan.plan.limits.mismatch.is_none() {
        return Ok(measured);
    }
    Ok(match mismatch(store, plan).await? {
        Ok(share) => Measured { mismatch: Some(share), ..measured },
        Err(why) => Measured { not_compared: Some(why), ..measured },
    })
}

/// Of what the agent has decided in shadow since the step began: how much does not agree with what the old system did. Where the comparison cannot
/// be made just now, why: what was compared before says nothing of what has come since.
async fn mismatch(store: &Store, plan: &Cutover) -> Result<Result<Share, String>, StoreError> {
    let compare_mappings = store.compare_mappings().await?;
    let Some(compare_mapping) = compare_mappings.into_iter().find(|one| one.agent == plan.agent) else {
        return Ok(Err("it is compared with nothing".into()));
    };
    if let Some(trouble) = compare_mapping.trouble {
        return Ok(Err(trouble));
    }
    let compared = store.compared(&plan.agent, &plan.compared_from).await?;
    let of = compared.judged().unsigned_abs();
    Ok(Ok(Share { bad: of.saturating_sub(compared.agreed.unsigned_abs()), of }))
}

fn or_default(because: String, otherwise: &str) -> String {
    if because.trim().is_empty() { otherwise.to_owned() } else { because }
}
