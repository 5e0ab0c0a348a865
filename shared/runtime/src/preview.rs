//! Whose is it, and is it done? One round trip for the batch, without a lock: it saves gathering for what will not be taken.
//! The claim inside the transaction decides.

use crate::{
    batch::{Admitted, Parsed},
    bugs,
    outcome::{Outcome, Outcomes},
};
use switchyard_store::{Ask, BreakerState, Store};

/// Asks the ledger about every event and ends those that are not to be handled. The agent's breaker comes with the same answer.
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
    let preview = match store.preview(agent, &asks).await {
        Ok(preview) => preview,
        Err(error) => {
            tracing::warn!(agent, %error, records = asks.len(), "the ledger did not answer: the records are delivered again");
            for record in parsed {
                outcomes.end(record.at, Outcome::returned(error.to_string()), None);
            }
            return (BreakerState::Closed, Vec::new());
        }
    };
    let mut admitted = Vec::new();
    for (parsed, mut standing) in parsed.into_iter().zip(preview.answers) {
        standing.verdict = bugs::believed(standing.verdict, standing.event_id);
        match Outcome::of_verdict(standing.verdict) {
            Some(outcome) => outcomes.end(parsed.at, outcome, Some(standing)),
            None => admitted.push(Admitted::of(parsed, standing)),
        }
    }
    switchyard_faults::point("runtime.after_preview");
    (preview.breaker, admitted)
}
