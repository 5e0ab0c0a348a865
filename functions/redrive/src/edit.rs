//! One parked event, back with another payload.

use crate::{Yard, answer::Redriven, request::Redrive, words};
use switchyard_bus::{Directory, Moves, Queue};
use switchyard_store::Selection;
use tokio::time::Instant;
use uuid::Uuid;

/// What is asked for.
pub(crate) struct Edit<'a> {
    pub(crate) agent: &'a str,
    pub(crate) event_id: Uuid,
    pub(crate) payload: &'a str,
    pub(crate) operator: &'a str,
    pub(crate) reason: &'a str,
}

impl<D: Directory, M: Moves, Q: Queue> Yard<D, M, Q> {
    /// A new version of the payload, then a redrive of that event to that agent from the table. An event that is not parked is refused
    /// before anything is written: its agents have seen the payload that it has.
    pub(crate) async fn edit(&self, edit: &Edit<'_>, ends: Instant) -> Result<Redriven, String> {
        let place = self.place(edit.agent).await?;
        let selection = Selection { events: vec![edit.event_id], ..Selection::default() };
        if self.store.parked_deliveries(edit.agent, &selection).await.map_err(words)?.is_empty() {
            return Err(format!("{} is not parked for {}: nothing was changed", edit.event_id, edit.agent));
        }
        let revision =
            self.store.revise(edit.event_id, edit.payload, edit.operator, edit.reason).await.map_err(words)?;
        let order = Redrive {
            agent: edit.agent.to_owned(),
            selection,
            operator: edit.operator.to_owned(),
            reason: edit.reason.to_owned(),
            ..Redrive::default()
        };
        let mut done = self.by_table(&place, &order, ends).await?;
        done.revision = Some(revision);
        Ok(done)
    }
}
