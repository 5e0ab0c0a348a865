//! Decides what becomes of a message in a dead-letter queue, from the message and the ledger. Pure.

use switchyard_store::{Ask, State};

/// The part of a dead letter that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The delivery that it belongs to; `None` for a body without an event's id.
    pub(crate) delivery: Option<Ask>,
    /// Whether it has a reason, as every dead letter has that an agent has sent.
    pub(crate) has_reason: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The queue's redrive policy has moved it: its receivers died, or lost it, again and again. The steward parks the delivery and replaces the message
    /// by a dead letter with the reason.
    Died,
    /// Its delivery is settled: the copy is deleted.
    Stale,
    /// It stays.
    Kept,
}

impl Found {
    /// Decides by the state of the delivery; `None` if there is no row.
    pub(crate) fn fate(&self, state: Option<State>) -> Fate {
        match state {
            Some(State::Done | State::Superseded | State::Expired) => Fate::Stale,
            _ if self.has_reason => Fate::Kept,
            Some(State::Assigned | State::Failing | State::Parked) | None => Fate::Died,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [Option<State>; 7] = [
        None,
        Some(State::Assigned),
        Some(State::Failing),
        Some(State::Parked),
        Some(State::Done),
        Some(State::Superseded),
        Some(State::Expired),
    ];

    fn fates(has_reason: bool) -> Vec<Fate> {
        STATES.map(|state| Found { delivery: None, has_reason }.fate(state)).to_vec()
    }

    #[test]
    fn a_dead_letter_with_a_reason_stays_until_its_delivery_is_settled() {
        use Fate::{Kept, Stale};
        assert_eq!(fates(true), [Kept, Kept, Kept, Kept, Stale, Stale, Stale]);
    }

    #[test]
    fn a_message_without_a_reason_is_replaced_unless_its_delivery_is_settled() {
        use Fate::{Died, Stale};
        assert_eq!(fates(false), [Died, Died, Died, Died, Stale, Stale, Stale]);
    }
}
