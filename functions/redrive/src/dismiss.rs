//! Settles parked deliveries that an operator does not send back.

use crate::{Redriver, table::count, words};
use switchyard_bus::{Directory, Moves, Queue};
use switchyard_operations::redrive::{Dismiss, Dismissed};
use tokio::time::Instant;

impl<D: Directory, M: Moves, Q: Queue> Redriver<D, M, Q> {
    /// Settles the selected deliveries. The steward removes their dead letters. Dead letters without a delivery stay. If it stops anywhere, a repetition
    /// does the rest.
    pub(crate) async fn dismiss(&self, order: &Dismiss, ends: Instant) -> Result<Dismissed, String> {
        let Dismiss { agent, selection, dry_run, operator, reason } = order;
        self.place(agent).await?;
        let (deliveries, complete) = if *dry_run {
            (self.store.parked_count(agent, selection).await.map_err(words)?, true)
        } else {
            let dismissed = self.store.dismiss_until(agent, selection, operator, reason, ends).await.map_err(words)?;
            (count(dismissed.seqs.len()), dismissed.complete)
        };
        let trouble = (!complete).then(|| "the time was up before everything was dismissed: do it again".to_owned());
        Ok(Dismissed { agent: agent.clone(), dry_run: *dry_run, deliveries, trouble })
    }
}
