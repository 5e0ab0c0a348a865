//! Whose is it, and is it done? One round trip for the batch, without a lock: it saves gathering for what will not be taken.
//! The claim inside the transaction has the last word.

use crate::{
    batch::{Admitted, Ending, Endings, Parsed},
    mistakes,
};
use switchyard_event::Reason;
use switchyard_store::{Ask, BreakerState, Store, Verdict};

/// Asks the ledger about every event and ends those that are not to be handled. The agent's breaker comes along in the same answer.
pub(crate) async fn layer(
    store: &Store,
    agent: &str,
    parsed: Vec<Parsed>,
    endings: &mut Endings<'_>,
) -> (BreakerState, Vec<Admitted>) {
    if parsed.is_empty() {
        return (BreakerState::Closed, Vec::new());
    }
    let asks: Vec<Ask> = parsed.iter().map(|record| record.ask.clone()).collect();
    let looked = match store.look(agent, &asks).await {
        Ok(looked) => looked,
        Err(error) => {
            tracing::warn!(agent, %error, records = asks.len(), "the ledger did not answer: the records come again");
            for record in parsed {
                endings.end(record.at, Ending::returned(error.to_string()), None);
            }
            return (BreakerState::Closed, Vec::new());
        }
    };
    let mut admitted = Vec::new();
    for (parsed, mut standing) in parsed.into_iter().zip(looked.standings) {
        standing.verdict = mistakes::believed(standing.verdict, standing.event_id);
        match ending_of(standing.verdict) {
            Some(ending) => endings.end(parsed.at, ending, Some(standing)),
            None => admitted.push(Admitted::of(parsed, standing)),
        }
    }
    switchyard_faults::point("runtime.after_look");
    (looked.breaker, admitted)
}

/// How a verdict ends a record; `None` for the two that go on.
pub(crate) fn ending_of(verdict: Verdict) -> Option<Ending> {
    let park = |reason: Reason, detail: &str| Ending::Park { reason: reason.as_str().into(), detail: detail.into() };
    Some(match verdict {
        Verdict::Take | Verdict::Shadow => return None,
        Verdict::AlreadyDone => Ending::Finished("already done"),
        Verdict::NotYours => Ending::Finished("the old system's"),
        Verdict::Parked => Ending::Finished("parked before"),
        Verdict::NotSubscribed => Ending::Finished("not subscribed"),
        Verdict::Unknown => {
            park(Reason::NotInTable, "no committed event has this id: only what stands in the table is handled")
        }
        Verdict::UnknownRun => park(Reason::UnknownRun, "no replay has selected this event"),
        Verdict::TooOld => {
            park(Reason::TooOld, "its delivery is no longer remembered, so running it could do things twice")
        }
    })
}
