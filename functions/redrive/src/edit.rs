//! Sends one parked event back with another payload.

use crate::{
    Redriver,
    table::{AT_ONCE, Back, count},
    words,
};
use switchyard_bus::{Directory, Moves, Queue};
use switchyard_operations::redrive::{Redrive, Redriven, Way};
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

impl<D: Directory, M: Moves, Q: Queue> Redriver<D, M, Q> {
    /// Writes a revision and requeues the delivery in one transaction; then sends the message. An event that is not parked is refused: its agents have read
    /// the present payload. If it stops after the transaction, the steward sends the message.
    pub(crate) async fn edit(&self, edit: &Edit<'_>, ends: Instant) -> Result<Redriven, String> {
        let place = self.place(edit.agent).await?;
        let order = Redrive {
            agent: edit.agent.to_owned(),
            selection: Selection { events: vec![edit.event_id], ..Selection::default() },
            operator: edit.operator.to_owned(),
            reason: edit.reason.to_owned(),
            ..Redrive::default()
        };
        // The live delivery and replays of it.
        let parked = self.store.parked_deliveries(edit.agent, &order.selection, None, AT_ONCE).await.map_err(words)?;
        let mut back = Back::default();
        if !parked.is_empty() {
            back.copies = Some(self.copies(&place, ends).await?);
        }
        let (agent, event) = (edit.agent, edit.event_id);
        let revised = self.store.revise_and_redrive(agent, event, edit.payload, edit.operator, edit.reason).await;
        let revised = match revised {
            Ok(revised) => revised,
            Err(error) => {
                self.put_back(&place, back.copies).await;
                return Err(words(error));
            }
        };
        switchyard_faults::point("redrive.after_redrive");
        let mut done = Redriven::nothing(&order);
        let deliveries: Vec<(Uuid, i32)> = parked.iter().map(|one| (one.event_id, one.run)).collect();
        (done.way, done.revision, done.deliveries) = (Way::Table, Some(revised.revision), count(deliveries.len()));
        self.send_back(&place, &order, &deliveries, &mut back, &mut done, ends).await?;
        self.finish(&place, back, &mut done).await;
        Ok(done)
    }
}
