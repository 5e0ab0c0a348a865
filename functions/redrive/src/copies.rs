//! Letters of the dead-letter queue, kept from others while what they are copies of goes back.

use crate::{
    dead_letter::{Fate, fate},
    scan::{self, Scan},
};
use std::collections::BTreeSet;
use switchyard_bus::{Queue, Received};
use switchyard_operations::{Selection, dead_letter::ParkedMessage};
use switchyard_store::State;
use uuid::Uuid;

/// What a queue showed before anything was sent: a letter that is parked anew is not among it, so none is taken for an old one.
pub(crate) struct Copies {
    held: Vec<Held>,
    /// How many there were.
    pub(crate) seen: usize,
    /// Whether that was all that the queue holds.
    pub(crate) complete: bool,
}

struct Held {
    received: Received,
    letter: ParkedMessage,
    has_row: bool,
}

impl Copies {
    /// Of what was received, and of what the ledger says of each.
    pub(crate) fn of(scan: Scan, letters: Vec<ParkedMessage>, states: &[Option<State>]) -> Self {
        let (seen, complete) = (scan.letters.len(), scan.complete());
        let held = scan.letters.into_iter().zip(letters).zip(states);
        let held = held.map(|((received, letter), state)| Held { received, letter, has_row: state.is_some() });
        Self { held: held.collect(), seen, complete }
    }

    /// Removes the copies of these deliveries, which are about to be sent. How many are gone.
    pub(crate) async fn remove<Q: Queue>(
        &mut self,
        queue: &Q,
        selection: &Selection,
        back: &BTreeSet<(Uuid, i32)>,
    ) -> usize {
        let copies = self.take(|held| fate(&held.letter, held.has_row, selection, back) == Fate::Remove);
        scan::delete(queue, &copies.iter().map(|held| &held.received).collect::<Vec<_>>()).await
    }

    /// Out of what is held: the letters that no table can bring and the selection takes.
    pub(crate) fn loose(&mut self, selection: &Selection) -> Vec<(Received, ParkedMessage)> {
        let none = BTreeSet::new();
        let loose = self.take(|held| fate(&held.letter, held.has_row, selection, &none) == Fate::Forward);
        loose.into_iter().map(|held| (held.received, held.letter)).collect()
    }

    /// Makes all that is still held visible again.
    pub(crate) async fn put_back<Q: Queue>(self, queue: &Q) {
        scan::put_back(queue, self.held.iter().map(|held| &held.received)).await;
    }

    fn take(&mut self, which: impl Fn(&Held) -> bool) -> Vec<Held> {
        let (taken, kept) = std::mem::take(&mut self.held).into_iter().partition(which);
        self.held = kept;
        taken
    }
}
