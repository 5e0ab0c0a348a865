//! Whose is it, and is it done? One round trip for the batch, without a lock: it saves gathering for what will not be taken.
//! The claim inside the transaction decides.

use crate::{
    batch::{Admitted, Parsed},
    bugs,
    outcome::{Outcome, Outcomes},
};
use std::collections::HashMap;
use switchyard_store::{Ask, BreakerState, Seal, Store, Verdict};

/// Asks the ledger about every event and ends those that are not to be handled. The agent's breaker comes with the same answer. A forged message is
/// parked by its own id: it says nothing about the delivery of the event that it names. Of other messages of one event the first is handled.
pub(crate) async fn layer(
    store: &Store,
    agent: &str,
    parsed: Vec<Parsed>,
    outcomes: &mut Outcomes<'_>,
) -> (BreakerState, Vec<Admitted>) {
    if parsed.is_empty() {
        return (BreakerState::Closed, Vec::new());
    }
    let asks: Vec<Ask> = parsed.iter().map(|record| record.ask.clone()).collect();
    let seals: Vec<Seal> = parsed.iter().map(|record| record.seal.clone()).collect();
    let preview = match store.preview_bodies(agent, &asks, &seals).await {
        Ok(preview) => preview,
        Err(error) => {
            tracing::warn!(agent, %error, records = asks.len(), "the ledger did not answer: the records are delivered again");
            for record in parsed {
                outcomes.end(record.at, Outcome::returned(error.to_string()), None);
            }
            return (BreakerState::Closed, Vec::new());
        }
    };
    let (mut admitted, mut first) = (Vec::new(), HashMap::new());
    for (parsed, mut standing) in parsed.into_iter().zip(preview.answers) {
        if standing.verdict == Verdict::Forged {
            if let Some(outcome) = Outcome::of_verdict(standing.verdict) {
                outcomes.end(parsed.at, outcome, None);
            }
            continue;
        }
        if let Some(&same) = first.get(&parsed.ask) {
            outcomes.end(parsed.at, Outcome::SameAs(same), None);
            continue;
        }
        first.insert(parsed.ask.clone(), parsed.at);
        standing.verdict = bugs::believed(standing.verdict, standing.event_id);
        match Outcome::of_verdict(standing.verdict) {
            Some(outcome) => outcomes.end(parsed.at, outcome, Some(standing)),
            None => admitted.push(Admitted::of(parsed, standing)),
        }
    }
    switchyard_faults::point("runtime.after_preview");
    (preview.breaker, admitted)
}
