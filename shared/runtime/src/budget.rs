//! What a chain of events may cost: hops and time to live. A loop (A emits what B receives, B emits what A receives) is stopped, not run for ever.
//!
//! The events themselves count both: each has the number of events before it (`hops`) and the time of the first reaction (`started_at`). An event that
//! was sent again, by a redrive or a replay, is never stopped; what follows from an event that an operator has let pass over its budget has a new
//! budget, and from any other event the chain goes on.

use crate::{
    batch::Admitted,
    outcome::{Cause, Outcomes},
};
use switchyard_agent::STOPPED_CHAIN;
use switchyard_event::{Metadata, Reason};
use switchyard_store::{Link, Store, Verdict};

/// How many of a chain's last links the log and the failure show.
const LINKS_SHOWN: i64 = 20;

/// How long and how old a chain may become before its next event is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// How many events may stand between the first of a chain and one that is handled.
    pub max_hops: u32,
    /// How many hours after the first reaction of its chain an event may still have been emitted, once more than half of the hops are used up.
    /// Measured between the two events' own times: neither the age of the chain's first event counts, nor how long this one has waited in a
    /// queue. These times do not show whether the events before it have waited, for an agent that was down or is new: so a chain of few hops,
    /// which no loop has made, is never too old.
    pub chain_hours: u32,
}

impl Budget {
    /// 16 hops, as many as AWS Lambda's own detection of recursive loops lets pass (AWS Lambda Developer Guide, "Use Lambda recursive loop
    /// detection"), which cannot see through a table; and a day.
    pub const DEFAULT: Self = Self { max_hops: 16, chain_hours: 24 };

    /// Why an event with this metadata is not handled, if it is not. The first of a chain is never: where nothing stands before it, nothing
    /// can have run away.
    pub(crate) fn overdrawn(self, metadata: &Metadata) -> Option<(Reason, String)> {
        let Self { max_hops, chain_hours } = self;
        if metadata.hops > max_hops {
            let detail = format!("{} events stand before it, and {max_hops} are allowed", metadata.hops);
            return Some((Reason::TooManyHops, detail));
        }
        let began = metadata.chain_began();
        let secs = metadata.timestamp.duration_since(began).as_secs();
        (metadata.hops > max_hops / 2 && secs > i64::from(chain_hours) * 3_600).then(|| {
            let detail =
                format!("its chain began at {began}, {} hours before it, and {chain_hours} are allowed", secs / 3_600);
            (Reason::ChainTooOld, detail)
        })
    }
}

/// Parks what is over its chain's budget, each with its chain. Only live events that were not sent again, and only where they have effects:
/// in shadow mode the old system's chain is the old system's.
pub(crate) async fn layer(
    store: &Store,
    agent: &str,
    budget: Budget,
    admitted: Vec<Admitted>,
    outcomes: &mut Outcomes<'_>,
) -> Vec<Admitted> {
    let mut within = Vec::with_capacity(admitted.len());
    for record in admitted {
        let standing = &record.standing;
        let counts = standing.run == 0 && standing.epoch == 0 && standing.verdict == Verdict::Take;
        let Some((reason, detail)) = counts.then(|| budget.overdrawn(&record.parsed.event.metadata)).flatten() else {
            within.push(record);
            continue;
        };
        match store.chain(record.parsed.event.id, LINKS_SHOWN).await {
            Ok(links) => {
                let chain = described(&links);
                let event = &record.parsed.event;
                let attempt = record.standing.attempts + 1;
                tracing::error!(
                    agent, event.id = %event.id, event.type = %event.event_type, attempt, %reason, chain,
                    "{STOPPED_CHAIN}"
                );
                within.extend(record.refuse(reason, format!("{detail}: {chain}"), outcomes));
            }
            Err(error) => record.return_untried(error.to_string(), Cause::Passing, outcomes),
        }
    }
    within
}

/// A chain for the operator: the first cause first.
fn described(links: &[Link]) -> String {
    let link = |link: &Link| format!("{} about {} ({})", link.event_type, link.aggregate_id, link.id);
    links.iter().map(link).collect::<Vec<_>>().join(" -> ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn metadata(hops: u32, started_at: Option<&str>, timestamp: &str) -> Metadata {
        let mut json = serde_json::json!({ "hops": hops, "timestamp": timestamp });
        if let Some(started_at) = started_at {
            json["started_at"] = started_at.into();
        }
        Metadata::parse(&json.to_string()).unwrap()
    }

    fn reason(hops: u32, started_at: &str, timestamp: &str) -> Option<Reason> {
        Budget::DEFAULT.overdrawn(&metadata(hops, Some(started_at), timestamp)).map(|(reason, _)| reason)
    }

    #[test]
    fn the_sixteenth_hop_is_handled_and_the_seventeenth_is_not() {
        let soon = "2026-01-05T10:00:00Z";
        assert_eq!(reason(16, soon, soon), None);
        assert_eq!(reason(17, soon, soon), Some(Reason::TooManyHops));
    }

    #[test]
    fn a_day_after_its_beginning_a_chain_that_has_used_up_half_of_its_hops_is_too_old() {
        let began = "2026-01-05T10:00:00Z";
        assert_eq!(reason(9, began, "2026-01-06T10:00:00Z"), None);
        assert_eq!(reason(9, began, "2026-01-06T10:00:01Z"), Some(Reason::ChainTooOld));
    }

    #[test]
    fn a_chain_of_few_hops_that_an_outage_has_kept_waiting_is_not_too_old() {
        assert_eq!(reason(8, "2026-01-05T10:00:00Z", "2026-02-05T10:00:00Z"), None);
    }

    #[test]
    fn the_first_of_a_chain_is_never_too_old_and_neither_is_a_delay_that_was_asked_for() {
        assert_eq!(reason(0, "2020-01-01T00:00:00Z", "2026-01-06T10:00:00Z"), None);
        let json = r#"{"hops":12,"timestamp":"2026-02-01T00:00:00Z","started_at":"2026-01-01T00:00:00Z","deliver_at":"2026-03-01T00:00:00Z"}"#;
        assert_eq!(Budget::DEFAULT.overdrawn(&Metadata::parse(json).unwrap()), None);
    }

    #[test]
    fn a_person_sees_the_chain_from_its_first_cause_on() {
        let link = |event_type: &str| Link {
            id: uuid::Uuid::nil(),
            event_type: event_type.into(),
            aggregate_id: "p".into(),
            hops: 0,
            at: String::new(),
        };
        let id = uuid::Uuid::nil();
        assert_eq!(described(&[link("a.b"), link("c.d")]), format!("a.b about p ({id}) -> c.d about p ({id})"));
    }

    proptest! {
        #[test]
        fn more_hops_or_more_hours_never_bring_a_chain_back_within_its_budget(hops in 1u32..40, more in 0u32..9, hours in 0i64..72, later in 0i64..9) {
            let over = |hops: u32, hours: i64| {
                let began: jiff::Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
                let said = began + jiff::SignedDuration::from_hours(hours);
                reason(hops, &began.to_string(), &said.to_string()).is_some()
            };
            prop_assert!(!over(hops, hours) || over(hops + more, hours + later));
        }
    }
}
