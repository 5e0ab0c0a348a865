//! What an agent decided.

use serde::{Deserialize, Serialize};
use switchyard_event::NewEvent;

/// The effects to write and the events to emit. Data: two equal decisions are the same decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision<E> {
    /// What to write, in order.
    pub effects: Vec<E>,
    /// What to append to the table of events.
    pub events: Vec<NewEvent>,
}

impl<E> Decision<E> {
    /// Nothing to do: a decision like any other, and the delivery is done.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { effects: Vec::new(), events: Vec::new() }
    }

    /// Adds an effect.
    #[must_use]
    pub fn effect(mut self, effect: E) -> Self {
        self.effects.push(effect);
        self
    }

    /// Adds an event.
    #[must_use]
    pub fn event(mut self, event: NewEvent) -> Self {
        self.events.push(event);
        self
    }
}
