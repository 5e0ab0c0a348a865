//! When the steward inspects a dead-letter queue. Pure.
//!
//! An inspection receives the messages, and each receive counts towards the receives that the queue allows. So the steward inspects a queue when its
//! depth has changed, and otherwise once an hour.

use std::time::Duration;

/// How long a queue of the same depth may go without an inspection: a new dead letter may have replaced an old one.
const AT_THE_LATEST: Duration = Duration::from_secs(3_600);

/// The last inspection of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inspection {
    /// How many dead letters it left in the queue.
    pub(crate) left: u64,
    /// Whether it reached the end of the queue.
    pub(crate) whole: bool,
}

/// Whether to inspect a queue of this depth, by the last inspection and the time since then.
pub(crate) fn is_due(dead_letters: Option<u64>, last: Option<(Inspection, Duration)>) -> bool {
    match (dead_letters, last) {
        (Some(0), _) => false,
        (Some(dead_letters), Some((inspection, ago))) => {
            !inspection.whole || inspection.left != dead_letters || ago >= AT_THE_LATEST
        }
        // A queue of unknown depth is inspected.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    #[test]
    fn a_queue_of_the_same_depth_is_not_inspected_for_an_hour() {
        let inspection = Inspection { left: 3, whole: true };
        assert!(!is_due(Some(3), Some((inspection, SOON))));
        assert!(is_due(Some(3), Some((inspection, AT_THE_LATEST))));
        assert!(is_due(Some(4), Some((inspection, SOON))) && is_due(Some(2), Some((inspection, SOON))));
    }

    #[test]
    fn a_queue_that_was_not_read_to_its_end_or_has_no_known_depth_is_inspected() {
        assert!(is_due(Some(3), Some((Inspection { left: 3, whole: false }, SOON))));
        assert!(is_due(Some(3), None) && is_due(None, Some((Inspection { left: 3, whole: true }, SOON))));
        assert!(!is_due(Some(0), None), "an empty queue is never inspected");
    }
}
