//! Records that may have killed their process: out of memory, an abort, a timeout in code that never waits.
//!
//! A process that dies reports nothing, and its whole batch is delivered again: the record that did it and those that were with it. They were received
//! more often than attempts and returns explain. Such records are tried after the others of their batch and one by one, each counted in the
//! ledger beforehand, so that a death is attributed to one record; one that its process survives is cleared. An innocent record is only delayed.

use crate::{batch::Admitted, message::Message};

/// How many receives more than its attempts, its returns and this one make a record a suspect. Not every return is counted, such as those while
/// the ledger itself is down, so innocents come here; all that it costs them is to be tried alone.
const UNEXPLAINED: u32 = 3;

/// How many deaths alone park a record: one can be a deployment, two bad luck.
pub(crate) const MAX_DEATHS: u16 = 3;

/// Parts a batch into those that are tried together and those that are tried alone, each in their order.
pub(crate) fn apart(admitted: Vec<Admitted>, messages: &[Message]) -> (Vec<Admitted>, Vec<Admitted>) {
    admitted.into_iter().partition(|record| {
        let message = messages.get(record.parsed.at);
        let receives = message.map_or(1, |message| message.receives);
        // A message that is moved back keeps its count of receives, and its delivery begins anew.
        let before = message.and_then(|message| message.was_parked()).map_or(0, |parked| parked.attempts);
        !is_suspect(receives, record.standing.attempts.saturating_add(before), record.standing.returns)
    })
}

fn is_suspect(receives: u32, attempts: u16, returns: u16) -> bool {
    receives.saturating_sub(1).saturating_sub(u32::from(attempts)).saturating_sub(u32::from(returns)) >= UNEXPLAINED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_receives_that_nothing_accounts_for_make_a_suspect() {
        assert!(!is_suspect(1, 0, 0), "the first time");
        assert!(!is_suspect(3, 0, 0));
        assert!(is_suspect(4, 0, 0));
        assert!(!is_suspect(5, 4, 0), "four attempts and this receive");
        assert!(!is_suspect(7, 4, 0));
        assert!(is_suspect(8, 4, 0));
        assert!(!is_suspect(97, 4, 90), "it was returned ninety times");
        assert!(is_suspect(98, 4, 90));
    }

    #[test]
    fn more_attempts_than_receives_are_no_reason() {
        assert!(!is_suspect(1, 30, 30), "a message that was sent again counts its receives from the beginning");
    }
}
