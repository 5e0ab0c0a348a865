//! From a body to a row of the events table, or the reason why there is none. Pure.

use switchyard_event::{Event, Metadata, MetadataError};
use switchyard_store::AppendEvent;

/// Why a message does not become an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// A short stable word: what failures are grouped by.
    pub reason: String,
    /// What is wrong, for the operator; holds no value of the payload.
    pub error: String,
}

/// The reason for an event that is too many hops from the first of its chain.
pub(crate) const TOO_MANY_HOPS: &str = "too_many_hops";

impl Refused {
    pub(crate) fn new(reason: impl Into<String>, error: impl Into<String>) -> Self {
        Self { reason: reason.into(), error: error.into() }
    }
}

/// The row for a body.
///
/// The payload stays the text that it is. Of the metadata everything is kept but what only the way to an agent sets (`sequence`,
/// `revision`, `claim_check`): the chain that the publisher names goes on, and so does its count of hops.
///
/// # Errors
/// [`Refused`], with the word that failures are grouped by.
pub fn row(body: &str, max_hops: u32) -> Result<AppendEvent, Refused> {
    let event = Event::parse(body).map_err(|error| Refused::new(error.reason(), error.to_string()))?;
    let hops = event.metadata.hops;
    if hops > max_hops {
        let error = format!("the event is {hops} hops from the first of its chain; {max_hops} are allowed");
        return Err(Refused::new(TOO_MANY_HOPS, error));
    }
    let version = i32::try_from(event.version)
        .map_err(|_| Refused::new("malformed", format!("the version {} is too large", event.version)))?;
    let metadata = Metadata::of_row(Some(&event.metadata.to_json()), event.metadata.timestamp)
        .map_err(|error: MetadataError| Refused::new("malformed", error.to_string()))?;
    Ok(AppendEvent {
        id: event.id,
        event_type: event.event_type.to_string(),
        aggregate_type: event.aggregate_type.clone(),
        aggregate_id: event.aggregate_id.clone(),
        payload: event.payload().to_owned(),
        version,
        metadata: metadata.to_json(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = include_str!("../../../shared/event/fixtures/order.placed.v1.json");

    /// The sample with other metadata in the place of its hops; it has a sequence too.
    fn with(metadata: &str) -> String {
        assert!(SAMPLE.contains("\"hops\":0,") && SAMPLE.contains("\"sequence\":1"));
        SAMPLE.replacen("\"hops\":0", metadata, 1)
    }

    #[test]
    fn the_payload_and_the_chain_are_kept_and_keys_that_only_the_shim_sets_are_dropped() {
        let row = row(&with(r#""causation_id":"c","hops":3,"mine":1.0,"revision":3"#), 16).unwrap();
        assert_eq!(row.payload, Event::parse(SAMPLE).unwrap().payload());
        for kept in [r#""causation_id":"c""#, r#""hops":3"#, r#""mine":1.0"#] {
            assert!(row.metadata.contains(kept), "{kept}");
        }
        assert!(!row.metadata.contains("sequence") && !row.metadata.contains("revision"), "{}", row.metadata);
    }

    #[test]
    fn an_event_of_too_long_a_chain_is_refused() {
        let far = with("\"hops\":17");
        assert_eq!(row(&far, 16).unwrap_err().reason, "too_many_hops");
        assert!(row(&far, 17).is_ok());
    }

    #[test]
    fn a_body_that_is_no_event_is_refused_with_the_reason_that_an_agent_would_give() {
        let nul = SAMPLE.replacen("\"payload\":{", "\"payload\":{\"nul\":\"\\u0000\",", 1);
        let twice = SAMPLE.replacen("\"payload\":{", "\"payload\":{\"a\":1,\"a\":2,", 1);
        let huge = SAMPLE.replacen("\"version\":1", "\"version\":4294967295", 1);
        for (body, reason) in
            [("{", "malformed"), ("[]", "malformed"), (&*nul, "nul"), (&*twice, "duplicate_key"), (&*huge, "malformed")]
        {
            assert_eq!(row(body, 16).unwrap_err().reason, reason);
        }
    }

    proptest! {
        #[test]
        fn every_body_becomes_a_row_or_a_reason(body in ".*", inside in ".*") {
            for body in [body, SAMPLE.replacen("Checkout", &inside, 1)] {
                match row(&body, 16) {
                    Ok(row) => prop_assert!(Event::parse(&body).is_ok_and(|event| event.id == row.id)),
                    Err(refused) => prop_assert!(!refused.reason.is_empty() && !refused.error.is_empty()),
                }
            }
        }
    }
}
