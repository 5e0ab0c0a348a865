//! The filters of the command line as the selection that the function takes.

use crate::arguments::Only;
use jiff::Timestamp;
use switchyard_operations::Selection;

/// The selection; everything where no filter was given. Times of the kind "2h ago" are fixed here, once.
pub(crate) fn of(only: &Only, now: Timestamp) -> Selection {
    Selection {
        events: only.id.clone(),
        types: only.types.clone(),
        reasons: only.reasons.clone(),
        projects: only.projects.clone(),
        since: only.since.map(|since| since.as_of(now)),
        until: only.until.map(|until| until.as_of(now)),
        at_most: only.first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filter_is_everything_and_any_filter_is_not() {
        let now = Timestamp::UNIX_EPOCH;
        assert!(of(&Only::default(), now).is_everything());
        let only = |change: fn(&mut Only)| {
            let mut only = Only::default();
            change(&mut only);
            of(&only, now)
        };
        for some in [
            only(|only| only.id = vec![uuid::Uuid::nil()]),
            only(|only| only.types = vec!["a.b".into()]),
            only(|only| only.reasons = vec!["nul".into()]),
            only(|only| only.projects = vec!["p".into()]),
            only(|only| only.since = "2h".parse().ok()),
            only(|only| only.until = "2026-01-05T09:30:00Z".parse().ok()),
            only(|only| only.first = Some(1)),
        ] {
            assert!(!some.is_everything(), "{some:?}");
        }
    }
}
