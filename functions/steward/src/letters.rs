//! What becomes of a letter in a dead-letter queue, decided from the letter and the ledger. Pure.

use switchyard_store::{Ask, State};

/// A letter, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The delivery that it belongs to; `None` for a body without an event's id.
    pub(crate) delivery: Option<Ask>,
    /// Whether it says why it lies there, as every letter does that an agent has written.
    pub(crate) says_why: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The queue's own redrive policy has moved it: whatever received it died, or lost it, again and again. The ledger is told, and a letter
    /// that says so takes its place.
    Died,
    /// Its delivery has ended: nobody needs it any more.
    Stale,
    /// It lies where it should.
    Kept,
}

impl Found {
    /// The letter's fate, where `state` is that of its delivery; `None` where there is no row.
    pub(crate) fn fate(&self, state: Option<State>) -> Fate {
        match state {
            Some(State::Done | State::Superseded | State::Expired) => Fate::Stale,
            _ if self.says_why => Fate::Kept,
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

    fn fates(says_why: bool) -> Vec<Fate> {
        STATES.map(|state| Found { delivery: None, says_why }.fate(state)).to_vec()
    }

    #[test]
    fn a_letter_of_an_agent_stays_until_its_delivery_has_ended() {
        use Fate::{Kept, Stale};
        assert_eq!(fates(true), [Kept, Kept, Kept, Kept, Stale, Stale, Stale]);
    }

    #[test]
    fn a_letter_that_the_queue_moved_there_gets_one_that_says_so_unless_nobody_needs_it() {
        use Fate::{Died, Stale};
        assert_eq!(fates(false), [Died, Died, Died, Died, Stale, Stale, Stale]);
    }
}
