//! One fact that happened: the envelope of the contract.

use crate::{EventType, JsonFault, MAX_DEPTH, Metadata, MetadataError, Reason, json};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use thiserror::Error;
use uuid::Uuid;

/// One fact that happened, as every agent receives it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its identity; deduplication is by this alone.
    pub id: Uuid,
    /// What kind of thing happened.
    pub event_type: EventType,
    /// The kind of thing it happened to.
    pub aggregate_type: String,
    /// The thing it happened to; events of one aggregate are first published in sequence.
    pub aggregate_id: String,
    /// The schema version of the payload, nothing else.
    pub version: u32,
    /// What is known beside the payload.
    pub metadata: Metadata,
    payload: Box<RawValue>,
}

/// A body that is not an event. Permanent: no retry makes it one.
#[derive(Debug, Error)]
pub enum ParseError {
    /// Not JSON, or not an object.
    #[error("not a JSON object: {0}")]
    Malformed(String),
    /// JSON that must not enter.
    #[error("the event {0}")]
    Json(#[from] JsonFault),
    /// A required field is absent.
    #[error("the event lacks {0:?}")]
    Missing(&'static str),
    /// A field has a value of another kind.
    #[error("the event has {field:?} that is not {expected}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What it should be, in words.
        expected: &'static str,
    },
    /// The metadata is not what the contract says.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl ParseError {
    /// A short stable word for this kind of failure, one of [`Reason`]: what failures are grouped by.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        let reason = match self {
            Self::Json(JsonFault::Nul) => Reason::Nul,
            Self::Json(JsonFault::LoneSurrogate) => Reason::LoneSurrogate,
            Self::Json(JsonFault::TooDeep) => Reason::TooDeep,
            Self::Json(JsonFault::DuplicateKey { .. }) => Reason::DuplicateKey,
            _ => Reason::Malformed,
        };
        reason.as_str()
    }
}

/// A payload that is not what the agent expects of this type and version. Permanent.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// A number in it overflows or would be changed, and the field that it belongs to cannot take it.
    #[error("the payload {0}")]
    Number(JsonFault),
    /// A field is absent or of another kind.
    #[error("the payload is not a {event_type} of version {version}: {detail}")]
    Shape {
        /// The event's type.
        event_type: EventType,
        /// The event's version.
        version: u32,
        /// What is wrong and where; holds no value of the payload.
        detail: String,
    },
}

/// The envelope's fields, each raw, so that a wrong one can be named. Other fields are not ours to refuse.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    event_type: Option<&'a RawValue>,
    #[serde(borrow)]
    aggregate_type: Option<&'a RawValue>,
    #[serde(borrow)]
    aggregate_id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

/// A payload of `null` is a payload, unlike one that is absent.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

impl Event {
    /// Reads a body from a queue or a topic: the door. The payload stays the text that it is.
    ///
    /// # Errors
    /// [`ParseError`]: what is wrong, with the field's name where there is one. It never holds a value of the payload.
    pub fn parse(body: &str) -> Result<Self, ParseError> {
        json::check(body, MAX_DEPTH + 1)?;
        let envelope: Envelope<'_> = serde_json::from_str(body).map_err(|e| ParseError::Malformed(position(&e)))?;
        let version: u32 = field(envelope.version, "version", "a whole number from 1 on")?;
        if version == 0 {
            return Err(ParseError::Invalid { field: "version", expected: "a whole number from 1 on" });
        }
        Ok(Self {
            id: field(envelope.id, "id", "a UUID")?,
            event_type: field(envelope.event_type, "type", "text")?,
            aggregate_type: field(envelope.aggregate_type, "aggregate_type", "text")?,
            aggregate_id: field(envelope.aggregate_id, "aggregate_id", "text")?,
            version,
            metadata: Metadata::parse(envelope.metadata.ok_or(ParseError::Missing("metadata"))?.get())?,
            payload: envelope.payload.ok_or(ParseError::Missing("payload"))?.to_owned(),
        })
    }

    /// An event from the parts of a row of the table, where the application may have left out what the wire requires.
    ///
    /// # Errors
    /// [`ParseError::Malformed`] if the payload is not JSON, which a `jsonb` column excludes.
    pub fn from_parts(
        id: Uuid,
        event_type: EventType,
        aggregate: (String, String),
        payload: String,
        version: u32,
        metadata: Metadata,
    ) -> Result<Self, ParseError> {
        let payload = RawValue::from_string(payload).map_err(|e| ParseError::Malformed(position(&e)))?;
        Ok(Self { id, event_type, aggregate_type: aggregate.0, aggregate_id: aggregate.1, version, metadata, payload })
    }

    /// Gives the event the payload that its claim check stands for, or another version of its own: the door again, for what did not pass it
    /// before.
    ///
    /// # Errors
    /// [`ParseError::Json`] for a payload that must not enter, [`ParseError::Malformed`] for none; the event stays as it was.
    pub fn set_payload(&mut self, payload: String) -> Result<(), ParseError> {
        json::check(&payload, MAX_DEPTH)?;
        self.payload = RawValue::from_string(payload).map_err(|e| ParseError::Malformed(position(&e)))?;
        self.metadata.redeem_claim_check();
        Ok(())
    }

    /// The id of what may be no event: all that a report about a body needs that no agent can read.
    #[must_use]
    pub fn id_of(body: &str) -> Option<Uuid> {
        #[derive(Deserialize)]
        struct Named {
            id: Uuid,
        }
        serde_json::from_str::<Named>(body).ok().map(|named| named.id)
    }

    /// The payload, exactly as it was stored.
    #[must_use]
    pub fn payload(&self) -> &str {
        self.payload.get()
    }

    /// The payload as the agent's own type. Fields that the type does not name are ignored.
    ///
    /// # Errors
    /// [`DecodeError::Number`] where a number does not fit, [`DecodeError::Shape`] otherwise. A `f64` field takes the nearest float, as
    /// floats do; declare an integer, or read [`Event::payload`], where that matters.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        serde_json::from_str(self.payload.get()).map_err(|error| {
            json::inexact_number(self.payload.get()).map_or_else(
                || DecodeError::Shape {
                    event_type: self.event_type.clone(),
                    version: self.version,
                    detail: position(&error),
                },
                DecodeError::Number,
            )
        })
    }

    /// The chain that this event belongs to: its correlation id, or its own id where it is the first.
    #[must_use]
    pub fn correlation_id(&self) -> String {
        self.metadata.correlation_id.clone().unwrap_or_else(|| self.id.to_string())
    }

    /// The body of the message: the envelope of the contract, the payload as it is stored.
    ///
    /// U+FFFE and U+FFFF are written as escapes, the same JSON value: SQS refuses the characters themselves
    /// (Amazon SQS API Reference, SendMessage: `#x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF`).
    #[must_use]
    pub fn to_wire(&self) -> String {
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        let body = format!(
            r#"{{"id":"{}","type":{},"aggregate_type":{},"aggregate_id":{},"payload":{},"version":{},"metadata":{}}}"#,
            self.id,
            quote(self.event_type.as_str()),
            quote(&self.aggregate_type),
            quote(&self.aggregate_id),
            self.payload.get(),
            self.version,
            self.metadata.to_json(),
        );
        if body.contains(['\u{FFFE}', '\u{FFFF}']) {
            body.replace('\u{FFFE}', "\\ufffe").replace('\u{FFFF}', "\\uffff")
        } else {
            body
        }
    }
}

fn field<T: DeserializeOwned>(
    value: Option<&RawValue>,
    field: &'static str,
    expected: &'static str,
) -> Result<T, ParseError> {
    let value = value.ok_or(ParseError::Missing(field))?;
    serde_json::from_str(value.get()).map_err(|_| ParseError::Invalid { field, expected })
}

/// What serde_json found, without the value that it quotes: errors are logged, payloads are not.
fn position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data if text.starts_with("missing field") => {
            return text; // names a field of ours, quotes nothing
        }
        serde_json::error::Category::Data => "a value is of another kind",
        _ => "it is not JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(payload: &str) -> String {
        format!(
            r#"{{"id":"6f1e8f5e-2f2a-4c1e-9a51-0d6f3f1f0a01","type":"feedback.created","aggregate_type":"post","aggregate_id":"p-1","payload":{payload},"version":1,"metadata":{{"timestamp":"2026-01-02T03:04:05Z"}}}}"#
        )
    }

    #[test]
    fn each_required_field_is_named_when_it_is_missing_or_wrong() {
        let whole: serde_json::Value = serde_json::from_str(&body("{}")).unwrap();
        for name in ["id", "type", "aggregate_type", "aggregate_id", "payload", "version", "metadata"] {
            let mut without = whole.clone();
            without.as_object_mut().unwrap().remove(name);
            let error = Event::parse(&without.to_string()).unwrap_err();
            assert!(matches!(error, ParseError::Missing(field) if field == name), "{error}");
            if name != "payload" {
                let mut wrong = whole.clone();
                wrong[name] = serde_json::json!(false);
                let error = Event::parse(&wrong.to_string()).unwrap_err().to_string();
                assert!(error.contains(name), "{error}");
            }
        }
    }

    #[test]
    fn what_postgres_cannot_store_is_refused_with_its_reason() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        for (payload, reason) in [
            (r#"{"a":"\u0000"}"#, "nul"),
            (r#"{"a":"\ud800"}"#, "lone_surrogate"),
            (deep.as_str(), "too_deep"),
            (r#"{"a":1,"a":2}"#, "duplicate_key"),
            ("{", "malformed"),
        ] {
            assert_eq!(Event::parse(&body(payload)).unwrap_err().reason(), reason, "{payload}");
        }
        assert!(Event::parse(&body(&deep[1..deep.len() - 1])).is_ok());
    }

    #[test]
    fn a_redeemed_payload_is_checked_in_the_same_way() {
        let mut event = Event::parse(&body("null")).unwrap();
        assert_eq!(event.set_payload(r#"{"a":"\u0000"}"#.into()).unwrap_err().reason(), "nul");
        assert_eq!(event.set_payload("{".into()).unwrap_err().reason(), "malformed");
        assert_eq!(event.payload(), "null");
        event.set_payload(r#"{"n": 1.0}"#.into()).unwrap();
        assert_eq!(event.payload(), r#"{"n": 1.0}"#);
    }

    #[test]
    fn an_unreadable_body_may_still_have_an_event_id() {
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        let id = Event::id_of(&body(&deep)).unwrap();
        assert_eq!(id.to_string(), "6f1e8f5e-2f2a-4c1e-9a51-0d6f3f1f0a01");
        assert_eq!(Event::id_of("{"), None);
    }

    #[test]
    fn unusual_numbers_are_kept_exactly_and_refused_only_by_a_field_that_cannot_take_them() {
        #[derive(Debug, Deserialize)]
        struct Whole {
            #[serde(rename = "n")]
            _n: u64,
        }
        let event = Event::parse(&body(r#"{"n":18446744073709551617, "big":1e400}"#)).unwrap();
        assert_eq!(event.payload(), r#"{"n":18446744073709551617, "big":1e400}"#);
        assert!(matches!(event.decode::<Whole>(), Err(DecodeError::Number(JsonFault::NumberNotExact { .. }))));
        let event = Event::parse(&body(r#"{"n":1e400}"#)).unwrap();
        assert!(matches!(event.decode::<Whole>(), Err(DecodeError::Number(JsonFault::NumberTooLarge { .. }))));
        assert!(Event::parse(&body(r#"{"n":1,"big":1e400}"#)).unwrap().decode::<Whole>().is_ok());
    }

    #[test]
    fn an_error_never_quotes_the_payload() {
        let secret = r#"{"n":"hunter2"}"#;
        #[derive(Debug, Deserialize)]
        struct Whole {
            #[serde(rename = "n")]
            _n: u64,
        }
        let error = Event::parse(&body(secret)).unwrap().decode::<Whole>().unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.contains("feedback.created"), "{error}");
        for secret in ["18446744073709551617", "4111111111111111e400"] {
            let event = Event::parse(&body(&format!(r#"{{"n":{secret}}}"#))).unwrap();
            let error = event.decode::<Whole>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains(&secret[..16]), "{error}");
        }
        let error = Event::parse(&body(r#"{"hunter2":1,"hunter2":2}"#)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }

    #[test]
    fn the_two_characters_that_sqs_refuses_travel_as_escapes() {
        let event = Event::parse(&body("{\"a\":\"\u{FFFF}\u{FFFE}\u{1F600}\"}")).unwrap();
        let wire = event.to_wire();
        assert!(wire.contains(r"\uffff\ufffe") && wire.contains('\u{1F600}'));
        let value: serde_json::Value = serde_json::from_str(Event::parse(&wire).unwrap().payload()).unwrap();
        assert_eq!(value["a"], "\u{FFFF}\u{FFFE}\u{1F600}");
    }
}
