//! What the writers wanted, and what they were told.

use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// What a writer was told about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// Its transaction is committed.
    Ok,
    /// Its transaction is not: rolled back, or lost before the commit was asked for.
    Fail,
    /// The commit was asked for and not answered. The table decides.
    Unknown,
}

/// Everything that was wanted so far.
#[derive(Debug, Clone, Default)]
pub struct Intents(Arc<Mutex<Vec<(Uuid, Outcome)>>>);

impl Intents {
    pub(crate) fn note(&self, events: impl IntoIterator<Item = Uuid>, outcome: Outcome) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.extend(events.into_iter().map(|event| (event, outcome)));
    }

    /// A copy of the list.
    #[must_use]
    pub fn list(&self) -> Vec<(Uuid, Outcome)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many were told this.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|(_, told)| *told == outcome).count()
    }
}
