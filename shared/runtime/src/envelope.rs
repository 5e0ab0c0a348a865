//! A row of the table as a message for the topic.

use jiff::Timestamp;
use switchyard_bus::{Message, TOPIC_BYTES};
use switchyard_event::{Event, EventType, Metadata, ParseError};
use switchyard_store::Pending;
use thiserror::Error;

/// A row that no queue could carry: poison, set aside for a person to look at.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// No agent could read it.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// No topic takes it.
    #[error("it is larger than the {TOPIC_BYTES} bytes that the topic takes, attributes included")]
    TooLarge,
}

impl Unreadable {
    /// A short stable word for it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Parse(error) if error.reason() != "malformed" => error.reason(),
            Self::Parse(_) => "unreadable",
            Self::TooLarge => "too_large",
        }
    }
}

/// The message for a row. Lenient where the wire is strict: what an application left out is filled in from the row itself.
///
/// # Errors
/// [`Unreadable`] where no queue could carry it or no agent could read it: it is set aside, never dropped.
pub fn message(row: &Pending) -> Result<Message, Unreadable> {
    let payload = row.payload.clone().ok_or(Unreadable::TooLarge)?;
    let written = row.created_at.as_deref().and_then(|at| at.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    let metadata = Metadata::of_row(row.metadata.as_deref(), written).map_err(ParseError::from)?.with_sequence(row.seq);
    let version =
        row.version.and_then(|version| u32::try_from(version).ok()).filter(|version| *version > 0).unwrap_or(1);
    let (event_type, aggregate) =
        (EventType::from(row.event_type.clone()), (row.aggregate_type.clone(), row.aggregate_id.clone()));
    let body = Event::from_parts(row.id, event_type, aggregate, payload, version, metadata)?.to_wire();
    // The door that every agent has: what does not pass it is set aside here once, and not buried by each of them.
    let event = Event::parse(&body)?;
    let from = &event.metadata;
    let message = Message::new(body)
        .text("event_type", event.event_type.as_str())
        .text("aggregate_type", event.aggregate_type.as_str())
        .text("project_id", from.project_id.as_deref().unwrap_or_default())
        .number("version", i64::from(event.version))
        .number("priority", i64::from(from.priority))
        .text("correlation_id", event.correlation_id())
        .text("traceparent", from.traceparent.as_deref().unwrap_or_default())
        .number("run", 0);
    if message.size() > TOPIC_BYTES { Err(Unreadable::TooLarge) } else { Ok(message) }
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
        let large = Pending { payload: Some(format!("\"{}\"", "x".repeat(TOPIC_BYTES))), ..row() };
        assert_eq!(message(&large).unwrap_err().reason(), "too_large");
        assert_eq!(message(&Pending { payload: None, ..row() }).unwrap_err().reason(), "too_large");
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
