//! Parked deliveries that nobody will send back, ended by hand.

use crate::{Yard, answer::Dismissed, request::Dismiss, words};
use switchyard_bus::{Directory, Moves, Queue};

impl<D: Directory, M: Moves, Q: Queue> Yard<D, M, Q> {
    /// Settles the selected deliveries for good. Their letters are copies that nobody needs then, and the steward removes them. Letters
    /// without a delivery stay. Stopped anywhere, doing it again does the rest.
    pub(crate) async fn dismiss(&self, order: &Dismiss) -> Result<Dismissed, String> {
        let Dismiss { agent, selection, dry_run, operator, reason } = order;
        self.place(agent).await?;
        let deliveries = if *dry_run {
            self.store.parked_count(agent, selection).await.map_err(words)?
        } else {
            let dismissed = self.store.dismiss(agent, selection, operator, reason).await.map_err(words)?;
            i64::try_from(dismissed).unwrap_or(i64::MAX)
        };
        Ok(Dismissed { agent: agent.clone(), dry_run: *dry_run, deliveries })
    }
}
