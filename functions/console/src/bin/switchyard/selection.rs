//! The filters of the command line as the selection that the function takes.

use crate::when::Ago;
use clap::Args;
use jiff::Timestamp;
use switchyard_operations::Selection;
use uuid::Uuid;

/// A selection among what is parked. Kinds of filters narrow each other; values of one kind widen it.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Selection (repeat a filter to select more)")]
#[group(requires = "agent")]
pub(crate) struct Only {
    /// Only this event
    #[arg(long, value_name = "EVENT_ID")]
    pub(crate) id: Vec<Uuid>,
    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) types: Vec<String>,
    /// Only what was parked for this reason
    #[arg(long = "reason", value_name = "REASON")]
    pub(crate) reasons: Vec<String>,
    /// Only events of this project
    #[arg(long = "project", value_name = "PROJECT_ID")]
    pub(crate) projects: Vec<String>,
    /// Only what was parked since then: a time (2026-01-05T09:30:00Z) or how long ago (90m, 2h, 3d)
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<Ago>,
    /// Only what was parked before then
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<Ago>,
    /// At most so many, the oldest events first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) first: Option<i64>,
}

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
            only(|only| only.id = vec![Uuid::nil()]),
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
