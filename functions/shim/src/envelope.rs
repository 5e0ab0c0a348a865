//! A row of the table as a message for the topic.

use jiff::Timestamp;
use switchyard_bus::{Message, TOPIC_BYTES};
use switchyard_event::{Event, EventType, Metadata, ParseError};
use switchyard_store::Pending;
use thiserror::Error;

/// A row that no queue could carry: poison, set aside for a person to look at.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("it is larger than the {TOPIC_BYTES} bytes that the topic takes, attributes included")]
    TooLarge,
}

impl Unreadable {
    /// A short stable word for it.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Parse(_) => "unreadable",
            Self::TooLarge => "too_large",
        }
    }
}

/// The message for a row. Lenient where the wire is strict: what an application left out is filled in from the row itself.
pub(crate) fn message(row: &Pending) -> Result<Message, Unreadable> {
    let payload = row.payload.clone().ok_or(Unreadable::TooLarge)?;
    let created: Option<Timestamp> = row.created_at.as_deref().and_then(|at| at.parse().ok());
    let metadata = row.metadata.as_deref().unwrap_or("{}");
    let metadata = Metadata::parse(metadata, created).map_err(ParseError::from)?.with_sequence(row.seq);
    let version =
        row.version.and_then(|version| u32::try_from(version).ok()).filter(|version| *version > 0).unwrap_or(1);
    let (event_type, aggregate) =
        (EventType::from(row.event_type.clone()), (row.aggregate_type.clone(), row.aggregate_id.clone()));
    let event = Event::from_parts(row.id, event_type, aggregate, payload, version, metadata)?;
    let from = &event.metadata;
    let message = Message::new(event.to_wire())
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
    fn metadata_that_no_agent_could_read_and_bodies_that_no_topic_takes_are_set_aside() {
        let odd = Pending { metadata: Some(r#"{"hops": "many"}"#.into()), ..row() };
        assert_eq!(message(&odd).unwrap_err().reason(), "unreadable");
        let large = Pending { payload: Some(format!("\"{}\"", "x".repeat(TOPIC_BYTES))), ..row() };
        assert_eq!(message(&large).unwrap_err().reason(), "too_large");
        assert_eq!(message(&Pending { payload: None, ..row() }).unwrap_err().reason(), "too_large");
    }
}
