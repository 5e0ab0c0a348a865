//! Dead letters, hidden from other readers while the events that they are copies of are sent back.

use crate::{
    dead_letter::{Fate, fate},
    scan::{self, Scan},
};
use std::collections::BTreeSet;
use switchyard_bus::{Queue, Received};
use switchyard_operations::{Selection, dead_letter::ParkedMessage};
use switchyard_store::State;
use uuid::Uuid;

/// What the queue held before anything was sent, so that a delivery that is parked again does not lose its new dead letter.
pub(crate) struct Copies {
    held: Vec<Held>,
    /// How many there were.
    pub(crate) seen: usize,
    /// Whether that was all that the queue holds.
    pub(crate) complete: bool,
}

struct Held {
    received: Received,
    dead_letter: ParkedMessage,
    has_row: bool,
}

impl Copies {
    /// From what was received, and the state of each delivery.
    pub(crate) fn of(scan: Scan, dead_letters: Vec<ParkedMessage>, states: &[Option<State>]) -> Self {
        let (seen, complete) = (scan.dead_letters.len(), scan.complete());
        let held = scan.dead_letters.into_iter().zip(dead_letters).zip(states);
        let held =
            held.map(|((received, dead_letter), state)| Held { received, dead_letter, has_row: state.is_some() });
        Self { held: held.collect(), seen, complete }
    }

    /// Deletes the copies of these deliveries, which are about to be sent. Returns how many were deleted.
    pub(crate) async fn remove<Q: Queue>(
        &mut self,
        queue: &Q,
        selection: &Selection,
        back: &BTreeSet<(Uuid, i32)>,
    ) -> usize {
        let copies = self.take(|held| fate(&held.dead_letter, held.has_row, selection, back) == Fate::Remove);
        scan::delete(queue, &copies.iter().map(|held| &held.received).collect::<Vec<_>>()).await
    }

    /// Takes out the unmatched dead letters of the selection.
    pub(crate) fn unmatched(&mut self, selection: &Selection) -> Vec<(Received, ParkedMessage)> {
        let none = BTreeSet::new();
        let unmatched = self.take(|held| fate(&held.dead_letter, held.has_row, selection, &none) == Fate::Forward);
        unmatched.into_iter().map(|held| (held.received, held.dead_letter)).collect()
    }

    /// Makes all other messages visible again.
    pub(crate) async fn put_back<Q: Queue>(self, queue: &Q) {
        scan::put_back(queue, self.held.iter().map(|held| &held.received)).await;
    }

    fn take(&mut self, which: impl Fn(&Held) -> bool) -> Vec<Held> {
        let (taken, kept) = std::mem::take(&mut self.held).into_iter().partition(which);
        self.held = kept;
        taken
    }
}
