//! A row of the table as a message, for the topic and for one agent's queue.
//!
//! A payload that is too large for a message stays in the table: the message is then a *claim check*, with `"payload":null` and the metadata
//! key `claim_check`, and the agent's runtime fetches the payload before the agent sees the event.

use crate::seal;
use jiff::Timestamp;
use std::fmt::Display;
use switchyard_bus::{Message, TOPIC_BYTES};
use switchyard_event::{Event, EventType, Metadata, ParseError, Reason};
use switchyard_store::Pending;
use thiserror::Error;

/// A row that no queue could carry: it could not be published, and no agent receives it.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// No agent could read it.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// No topic takes it, even without its payload.
    #[error(
        "it is larger than the {TOPIC_BYTES} bytes that the topic takes, attributes included, even without its payload"
    )]
    TooLarge,
    /// What of the row is larger than the store reads.
    #[error("{0}")]
    Excess(String),
}

impl Unreadable {
    /// A short stable word for it, one of [`Reason`].
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Parse(error) if error.reason() != Reason::Malformed.as_str() => error.reason(),
            Self::Parse(_) => Reason::Unreadable.as_str(),
            Self::TooLarge | Self::Excess(_) => Reason::TooLarge.as_str(),
        }
    }
}

/// The message for a row, for the topic. Lenient where the wire is strict: what an application left out is filled in from the row itself.
///
/// # Errors
/// [`Unreadable`] where no queue could carry it or no agent could read it: it stays in the outbox with its reason, and is never dropped.
pub fn message(row: &Pending) -> Result<Message, Unreadable> {
    // Published twice, since a shim died before it could say so, it is a copy.
    Ok(sized(row)?.number("run", 0).in_group(&row.aggregate_id, &deduplication_id(row, 0, 0, "topic")))
}

/// The same message for the queue of one agent, with the delivery that it is sent for: a report on an older epoch is void. `at` is when it is
/// sent: whatever is sent again is no copy to FIFO, or what was lost within five minutes would be dropped.
///
/// # Errors
/// As [`message`]. What the topic would not take is not sent past it either, so that an event is readable for all agents or for none.
pub fn delivery(row: &Pending, run: i32, epoch: i32, at: Timestamp) -> Result<Message, Unreadable> {
    let message = sized(row)?.number("run", i64::from(run)).number("epoch", i64::from(epoch));
    Ok(message.in_group(&row.aggregate_id, &deduplication_id(row, run, epoch, at.as_second())))
}

/// What a copy is known by on FIFO: the event, the run, the epoch, and the sending.
fn deduplication_id(row: &Pending, run: i32, epoch: i32, sending: impl Display) -> String {
    format!("{}.{run}.{epoch}.{sending}", row.id)
}

/// What is kept free for the attributes `run` and `epoch`: their names, their type and the longest numbers (`-2147483648`).
const RUN_AND_EPOCH: usize = "run".len() + "epoch".len() + 2 * ("Number".len() + 11);

/// Whole where that fits, as a claim check otherwise.
fn sized(row: &Pending) -> Result<Message, Unreadable> {
    if let Some(excess) = &row.excess {
        return Err(Unreadable::Excess(excess.clone()));
    }
    let fits = |message: &Message| message.size() + RUN_AND_EPOCH <= TOPIC_BYTES;
    if let Some(payload) = &row.payload {
        let whole = built(row, payload.clone(), metadata(row)?)?;
        if fits(&whole) {
            return Ok(whole);
        }
    }
    let bytes = u64::try_from(row.payload_bytes).unwrap_or(u64::MAX);
    let checked = built(row, "null".to_owned(), metadata(row)?.with_claim_check(bytes))?;
    if fits(&checked) { Ok(checked) } else { Err(Unreadable::TooLarge) }
}

/// What the row has beside its payload, with what only the log and the ledger know.
fn metadata(row: &Pending) -> Result<Metadata, ParseError> {
    let written = row.created_at.as_deref().and_then(|at| at.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    let metadata = Metadata::of_row(row.metadata.as_deref(), written)?.with_sequence(row.seq);
    Ok(match row.revision.and_then(|revision| u32::try_from(revision).ok()) {
        Some(revision) => metadata.with_revision(revision),
        None => metadata,
    })
}

fn built(row: &Pending, payload: String, metadata: Metadata) -> Result<Message, Unreadable> {
    let version =
        row.version.and_then(|version| u32::try_from(version).ok()).filter(|version| *version > 0).unwrap_or(1);
    let (event_type, aggregate) =
        (EventType::from(row.event_type.clone()), (row.aggregate_type.clone(), row.aggregate_id.clone()));
    let event = Event::from_parts(row.id, event_type, aggregate, payload, version, metadata)?;
    let body = seal::sealed(&event.to_wire(), &row.seal_key);
    // What every agent would refuse stays here once, instead of being parked by each of them.
    let event = Event::parse(&body)?;
    let from = &event.metadata;
    Ok(Message::new(body)
        .of_tenant(from.project_id.as_deref().unwrap_or_default())
        .text("event_type", event.event_type.as_str())
        .text("aggregate_type", event.aggregate_type.as_str())
        .text("project_id", from.project_id.as_deref().unwrap_or_default())
        .number("version", i64::from(event.version))
        .number("priority", i64::from(from.priority))
        .text("correlation_id", event.correlation_id())
        .text("traceparent", from.traceparent.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row() -> Pending {
        Pending {
            seq: 7,
            id: uuid::Uuid::nil(),
            event_type: "feedback.created".into(),
            aggregate_type: "post".into(),
            aggregate_id: "p".into(),
            payload: Some(r#"{"n": 1.0}"#.into()),
            payload_bytes: 10,
            metadata: None,
            version: None,
            created_at: Some("2026-01-05T09:30:00Z".into()),
            project_id: None,
            revision: None,
            excess: None,
            seal_key: vec![7; 32],
        }
    }

    #[test]
    fn what_the_application_left_out_is_filled_in_from_the_row() {
        let message = message(&row()).unwrap();
        let event = Event::parse(&message.body).unwrap();
        assert_eq!((event.version, event.metadata.sequence, event.payload()), (1, Some(7), r#"{"n": 1.0}"#));
        assert_eq!(event.metadata.timestamp.to_string(), "2026-01-05T09:30:00Z");
        assert_eq!((message.attribute("event_type"), message.attribute("run")), (Some("feedback.created"), Some("0")));
        assert_eq!(message.attribute("project_id"), None);
    }

    #[test]
    fn a_payload_that_a_person_has_edited_says_so() {
        let revised = Pending { revision: Some(2), metadata: Some(r#"{"revision": 7}"#.into()), ..row() };
        let event = Event::parse(&message(&revised).unwrap().body).unwrap();
        assert_eq!(event.metadata.revision, Some(2));
        let never = Pending { metadata: Some(r#"{"revision": 7}"#.into()), ..row() };
        assert_eq!(Event::parse(&message(&never).unwrap().body).unwrap().metadata.revision, None);
    }

    #[test]
    fn an_event_is_worth_more_than_an_optional_key_of_its_metadata() {
        let metadata = r#"{"hops": "many", "priority": 0, "max_attempts": 500, "project_id": 42, "deliver_at": "soon", "mine": 1}"#;
        let message = message(&Pending { metadata: Some(metadata.into()), ..row() }).unwrap();
        let event = Event::parse(&message.body).unwrap();
        assert_eq!((event.metadata.hops, event.metadata.priority, event.metadata.max_attempts), (0, 5, None));
        assert_eq!((message.attribute("priority"), message.attribute("project_id")), (Some("5"), None));
        assert_eq!(event.metadata.other("mine").map(|value| value.get()), Some("1"));
    }

    #[test]
    fn what_no_agent_could_read_and_what_no_topic_takes_is_set_aside_with_its_reason() {
        let no_object = Pending { metadata: Some("[]".into()), ..row() };
        assert_eq!(message(&no_object).unwrap_err().reason(), "unreadable");
        let deep = Pending { payload: Some(format!("{}{}", "[".repeat(70), "]".repeat(70))), ..row() };
        assert_eq!(message(&deep).unwrap_err().reason(), "too_deep");
        let metadata = Some(format!(r#"{{"mine":"{}"}}"#, "x".repeat(TOPIC_BYTES)));
        assert_eq!(message(&Pending { metadata, ..row() }).unwrap_err().reason(), "too_large");
        let excess = Pending { excess: Some("the type has 2000 bytes".into()), payload: None, ..row() };
        let error = delivery(&excess, 0, 0, Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!((error.reason(), error.to_string().as_str()), ("too_large", "the type has 2000 bytes"));
    }

    /// A row whose payload is a text of so many bytes.
    fn with_payload_of(bytes: usize) -> Pending {
        let payload = format!("\"{}\"", "x".repeat(bytes - 2));
        Pending { payload_bytes: payload.len(), payload: Some(payload), ..row() }
    }

    #[test]
    fn a_payload_that_no_message_could_carry_stays_in_the_table() {
        let unread = Pending { payload: None, payload_bytes: 300_000, ..row() };
        for row in [with_payload_of(TOPIC_BYTES), unread] {
            let message = message(&row).unwrap();
            let event = Event::parse(&message.body).unwrap();
            let bytes = event.metadata.claim_check.map(|check| check.bytes);
            assert_eq!((event.payload(), bytes), ("null", Some(row.payload_bytes as u64)));
            assert_eq!(message.attribute("event_type"), Some("feedback.created"));
        }
    }

    #[test]
    fn to_the_byte_what_fits_travels_whole() {
        let kept = with_payload_of(1_000);
        let around = sized(&kept).unwrap().size() - 1_000 + RUN_AND_EPOCH;
        let whole = |bytes| Event::parse(&message(&with_payload_of(bytes)).unwrap().body).unwrap().payload() != "null";
        assert!(whole(TOPIC_BYTES - around));
        assert!(!whole(TOPIC_BYTES - around + 1));
        let largest = with_payload_of(TOPIC_BYTES - around);
        assert_eq!(delivery(&largest, i32::MIN, i32::MIN, Timestamp::UNIX_EPOCH).unwrap().size(), TOPIC_BYTES);
    }

    #[test]
    fn a_queue_is_told_the_run_and_the_epoch_that_the_message_is_for() {
        let message_for = delivery(&row(), 3, 7, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((message_for.attribute("run"), message_for.attribute("epoch")), (Some("3"), Some("7")));
        assert_eq!(message_for.body, message(&row()).unwrap().body);
    }

    #[test]
    fn on_fifo_an_aggregate_is_a_group_and_only_the_same_sending_of_the_same_delivery_is_a_copy() {
        let id = |message: Message| message.keys().deduplication_id.clone();
        let at = |second| Timestamp::from_second(second).unwrap();
        let sent = |run, epoch, second| id(delivery(&row(), run, epoch, at(second)).unwrap());
        let other = Pending { id: uuid::Uuid::from_u128(1), ..row() };
        assert_eq!(message(&row()).unwrap().keys().group.as_deref(), Some("p"));
        assert_eq!(id(message(&row()).unwrap()), id(message(&row()).unwrap()));
        assert_eq!(sent(0, 1, 60), sent(0, 1, 60));
        let different = [
            id(message(&row()).unwrap()),
            id(message(&other).unwrap()),
            sent(0, 0, 60),
            sent(0, 0, 61),
            sent(0, 1, 60),
            sent(1, 0, 60),
        ];
        assert_eq!(std::collections::BTreeSet::from(different.clone()).len(), different.len());
    }

    #[test]
    fn on_a_standard_queue_the_project_is_the_tenant() {
        let metadata = Some(r#"{"project_id": "project 7"}"#.to_owned());
        let tenant = |row: &Pending| message(row).unwrap().keys().tenant.clone();
        assert_eq!(tenant(&Pending { metadata, ..row() }), Some(switchyard_bus::Keys::id("project 7")));
        assert_eq!(tenant(&row()), None);
    }

    /// JSON texts, odd ones among them, and now and then a text that is none.
    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("1e400".to_owned()),
            Just(r#""\u0000""#.to_owned()),
            Just(r#""\ud800""#.to_owned()),
            Just("{".to_owned()),
            Just(r#""2026-01-02T03:04:05Z""#.to_owned()),
            any::<i64>().prop_map(|number| number.to_string()),
            ".*".prop_map(|text| format!("{text:?}")),
        ];
        let key = prop_oneof![
            Just("timestamp"),
            Just("priority"),
            Just("hops"),
            Just("deliver_at"),
            Just("user_id"),
            Just("x")
        ];
        leaf.prop_recursive(80, 200, 4, move |inner| {
            prop_oneof![
                inner.clone().prop_map(|inner| format!("[{inner}]")),
                prop::collection::vec((key.clone(), inner), 0..4).prop_map(|pairs| {
                    let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
                    format!("{{{}}}", pairs.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_becomes_a_message_is_an_event_to_every_agent(
            payload in json(),
            metadata in prop::option::of(json()),
            event_type in ".*",
            version in prop::option::of(any::<i32>()),
            created_at in prop::option::of(".*"),
        ) {
            let row = Pending { payload: Some(payload), metadata, event_type, version, created_at, ..row() };
            if let Ok(message) = message(&row) {
                let event = Event::parse(&message.body);
                prop_assert!(event.is_ok(), "{event:?}");
            }
        }
    }
}
