//! Deliveries that are settled without an effect: a newer event has written, or the event was deleted.

use crate::{database::refusal_of, outcome::Outcome};
use switchyard_agent::Refusal;
use switchyard_event::Reason;
use switchyard_store::{Ask, ClaimAnswer, Settlement, Store, Verdict};
use tokio::time::{Instant, timeout_at};

/// What a record is settled as other than done, and why.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settled {
    pub(crate) settlement: Settlement,
    pub(crate) why: &'static str,
    /// For the log.
    pub(crate) word: &'static str,
}

impl Settled {
    /// Its effects are undone, and it is not tried again.
    pub(crate) const SUPERSEDED: Self =
        Self { settlement: Settlement::Superseded, why: "a newer event had written already", word: "superseded" };

    /// Nothing of it is left to handle. The reason is the one that the ledger itself gives where it is the first to see it.
    pub(crate) const DELETED: Self = Self {
        settlement: Settlement::Expired,
        why: Reason::EventDeleted.as_str(),
        word: "expired: its event was deleted",
    };
}

/// Settles a delivery without an effect, given up at the deadline as any commit is.
pub(crate) async fn settle(
    store: &Store,
    agent: &str,
    ask: &Ask,
    settled: Settled,
    deadline: Instant,
) -> Result<(Outcome, ClaimAnswer), Refusal> {
    let steps = async {
        let mut tx = store.begin_within(deadline.saturating_duration_since(Instant::now())).await?;
        let answers = tx.claim(agent, std::slice::from_ref(ask)).await?;
        let Some(standing) = answers.into_iter().next() else { return Ok(None) };
        let outcome = match standing.verdict {
            Verdict::Take => {
                tx.settle(agent, std::slice::from_ref(ask), settled.settlement, settled.why).await?;
                Outcome::Finished(settled.word)
            }
            verdict => Outcome::of_verdict(verdict).unwrap_or(Outcome::Finished(settled.word)),
        };
        tx.commit().await?;
        Ok(Some((outcome, standing)))
    };
    match timeout_at(deadline, steps).await {
        Err(_) => Err(Refusal::OutOfTime),
        Ok(ended) => ended.map_err(refusal_of)?.ok_or_else(|| Refusal::retry("the claim was not answered")),
    }
}
