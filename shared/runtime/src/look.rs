//! Whose is it, and is it done? One round trip for the batch, without a lock: it saves gathering for what will not be taken.
//! The claim inside the transaction has the last word.

use crate::batch::{Admitted, Ending, Endings, Parsed};
use switchyard_store::{Ask, Store, Verdict};

/// Asks the ledger about every event and ends those that are not to be handled.
pub(crate) async fn layer(store: &Store, agent: &str, parsed: Vec<Parsed>, endings: &mut Endings<'_>) -> Vec<Admitted> {
    if parsed.is_empty() {
        return Vec::new();
    }
    let asks: Vec<Ask> = parsed.iter().map(|record| record.ask.clone()).collect();
    let standings = match store.look(agent, &asks).await {
        Ok(standings) => standings,
        Err(error) => {
            tracing::warn!(agent, %error, records = asks.len(), "the ledger did not answer: the records come again");
            for record in parsed {
                endings.end(record.at, Ending::Returned { why: error.to_string().into() }, None);
            }
            return Vec::new();
        }
    };
    let mut admitted = Vec::new();
    for (parsed, standing) in parsed.into_iter().zip(standings) {
        match ending_of(standing.verdict) {
            Some(ending) => endings.end(parsed.at, ending, Some(standing)),
            None => admitted.push(Admitted { parsed, standing }),
        }
    }
    admitted
}

/// How a verdict ends a record; `None` for the two that go on.
pub(crate) fn ending_of(verdict: Verdict) -> Option<Ending> {
    Some(match verdict {
        Verdict::Take | Verdict::Shadow => return None,
        Verdict::AlreadyDone => Ending::Finished("already done"),
        Verdict::NotYours => Ending::Finished("the old system's"),
        Verdict::Parked => Ending::Finished("parked before"),
        Verdict::NotSubscribed => Ending::Finished("not subscribed"),
        Verdict::Unknown => Ending::Park {
            reason: "not_in_table".into(),
            detail: "no committed event has this id: only what stands in the table is handled".into(),
        },
        Verdict::UnknownRun => {
            Ending::Park { reason: "unknown_run".into(), detail: "no replay has selected this event".into() }
        }
        Verdict::TooOld => Ending::Park {
            reason: "too_old".into(),
            detail: "its delivery is no longer remembered, so running it could do things twice".into(),
        },
    })
}
