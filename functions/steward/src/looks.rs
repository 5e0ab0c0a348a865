//! When a dead-letter queue is looked at. Pure.
//!
//! A look is a receive, and costs each letter that stays one of the receives that its queue allows: so a queue is looked at when its depth has
//! changed, and otherwise once an hour.

use std::time::Duration;

/// How often a queue is looked at whose depth does not change: one letter may have come for another that went.
const ANYWAY: Duration = Duration::from_secs(3_600);

/// The last look at a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// How many letters it left.
    pub(crate) left: u64,
    /// Whether it came to the queue's end.
    pub(crate) whole: bool,
}

/// Whether a queue is to be looked at that holds so many letters, after the last look and the time since then.
pub(crate) fn is_due(letters: Option<u64>, last: Option<(Look, Duration)>) -> bool {
    match (letters, last) {
        (Some(0), _) => false,
        (Some(letters), Some((look, ago))) => !look.whole || look.left != letters || ago >= ANYWAY,
        // What is not known is looked at.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    #[test]
    fn a_queue_that_has_not_changed_is_left_alone_for_an_hour() {
        let look = Look { left: 3, whole: true };
        assert!(!is_due(Some(3), Some((look, SOON))));
        assert!(is_due(Some(3), Some((look, ANYWAY))));
        assert!(is_due(Some(4), Some((look, SOON))) && is_due(Some(2), Some((look, SOON))));
    }

    #[test]
    fn a_look_that_did_not_come_to_the_end_goes_on_and_what_is_not_known_is_looked_at() {
        assert!(is_due(Some(3), Some((Look { left: 3, whole: false }, SOON))));
        assert!(is_due(Some(3), None) && is_due(None, Some((Look { left: 3, whole: true }, SOON))));
        assert!(!is_due(Some(0), None), "an empty one never");
    }
}
