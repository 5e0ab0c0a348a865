//! Gather and decide, record by record, within the time that is left.

use crate::batch::{Admitted, Cause, Decided, Ending, Endings};
use futures_util::{FutureExt, future::join_all};
use std::{any::Any, panic::AssertUnwindSafe};
use switchyard_agent::{Agent, Decision, Refusal};
use switchyard_event::Event;
use switchyard_store::Verdict;
use tokio::time::{Instant, timeout_at};

/// Why a record is returned that another invocation must take up.
pub(crate) const OUT_OF_TIME: &str = "the time of this invocation ended first";

/// Gathers for all records at the same time and decides. What is not gathered at the deadline is returned unstarted: it has written
/// nothing and costs nothing.
pub(crate) async fn layer<A: Agent>(
    agent: &A,
    admitted: Vec<Admitted>,
    deadline: Instant,
    endings: &mut Endings<'_>,
) -> Vec<Decided<A::Effect>> {
    let decisions = join_all(admitted.iter().map(|record| one(agent, record, deadline))).await;
    switchyard_faults::point("runtime.after_gather");
    let mut decided = Vec::new();
    for (admitted, decision) in admitted.into_iter().zip(decisions) {
        let shadow = admitted.standing.verdict == Verdict::Shadow;
        match decision {
            Err(refusal @ (Refusal::Retry { .. } | Refusal::Reject(_))) if shadow => {
                decided.push(Decided { admitted, decision: Err(refusal) });
            }
            Ok(decision) => decided.push(Decided { admitted, decision: Ok(decision) }),
            Err(refusal) => {
                let (at, standing) = (admitted.parsed.at, admitted.standing);
                endings.end(at, ending_of(refusal), Some(standing));
            }
        }
    }
    decided
}

/// Decides for one record: what was refused before is not gathered for.
async fn one<A: Agent>(agent: &A, record: &Admitted, deadline: Instant) -> Result<Decision<A::Effect>, Refusal> {
    match &record.refused {
        Some(reject) => Err(Refusal::Reject(reject.clone())),
        None => decide(agent, &record.parsed.event, deadline).await,
    }
}

/// Gathers and decides for one event. A panic is a retry: it takes only its record.
pub(crate) async fn decide<A: Agent>(
    agent: &A,
    event: &Event,
    deadline: Instant,
) -> Result<Decision<A::Effect>, Refusal> {
    let steps = async {
        let facts = agent.gather(event).await?;
        A::decide(event, &facts).map_err(Refusal::from)
    };
    match timeout_at(deadline, AssertUnwindSafe(steps).catch_unwind()).await {
        Err(_) => Err(Refusal::Unavailable(OUT_OF_TIME.into())),
        Ok(Err(panic)) => Err(Refusal::retry(said(&*panic))),
        Ok(Ok(decision)) => decision,
    }
}

/// What a panic said.
pub(crate) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}

/// How a refusal ends a record. `Superseded` is the commit's to answer, which settles it: anywhere else it is a mistake of the agent and tried
/// again, since finishing it here would leave it unsettled.
pub(crate) fn ending_of(refusal: Refusal) -> Ending {
    match refusal {
        Refusal::Retry { reason, after } => Ending::Retry { detail: reason, after },
        Refusal::Reject(reject) => Ending::Park { reason: reject.reason.into(), detail: reject.detail },
        Refusal::Unavailable(why) => Ending::Returned { why: why.into(), cause: Cause::Dependency },
        Refusal::DatabaseDown(why) | Refusal::Conflict(why) => Ending::returned(why),
        Refusal::Superseded => {
            Ending::Retry { detail: "only `apply` may find an event superseded".into(), after: None }
        }
    }
}
