//! What is known about an event beside its payload.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use thiserror::Error;

/// The priority of an event that names none; the scale is 1 (can wait) to 10 (now).
pub const DEFAULT_PRIORITY: u8 = 5;

/// What is known about an event beside its payload. Keys that we do not know are kept and passed on as they came.
#[derive(Debug, Clone)]
pub struct Metadata {
    /// When it happened, by the publisher's clock.
    pub timestamp: Timestamp,
    /// The project it belongs to, where there are projects.
    pub project_id: Option<String>,
    /// Who did it.
    pub user_id: Option<String>,
    /// The chain it belongs to: the same for everything that follows from one first event.
    pub correlation_id: Option<String>,
    /// The event that led to this one.
    pub causation_id: Option<String>,
    /// Its place in the event log; set by the log, absent before.
    pub sequence: Option<i64>,
    /// How many events stand between it and the first of its chain.
    pub hops: u32,
    /// 1 (can wait) to 10 (now).
    pub priority: u8,
    /// How many attempts an agent has, where the event wants other than the agent's own.
    pub max_attempts: Option<u16>,
    /// Not before this time.
    pub deliver_at: Option<Timestamp>,
    /// What makes two publishes one.
    pub idempotency_key: Option<String>,
    /// W3C Trace Context.
    pub traceparent: Option<String>,
    /// Every key as it came, ours included: what goes out again.
    raw: BTreeMap<String, Box<RawValue>>,
}

/// Metadata that is not what the contract says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// Not a JSON object.
    #[error("metadata is not an object")]
    NotAnObject,
    /// A required key is absent or null.
    #[error("metadata lacks {0:?}")]
    Missing(&'static str),
    /// A key of ours has a value of another kind.
    #[error("metadata has {key:?} that is not {expected}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What it should be, in words.
        expected: &'static str,
    },
}

impl Metadata {
    /// Reads metadata, strict on the keys of the contract, silent on others. `fallback` stands in for a missing `timestamp`:
    /// rows written by an application may lack it, wire bodies may not (`None`).
    ///
    /// # Errors
    /// [`MetadataError`], naming the key.
    pub fn parse(text: &str, fallback: Option<Timestamp>) -> Result<Self, MetadataError> {
        let raw: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(text).map_err(|_| MetadataError::NotAnObject)?;
        let timestamp = match (read::<Timestamp>(&raw, "timestamp", "an RFC 3339 time")?, fallback) {
            (Some(timestamp), _) | (None, Some(timestamp)) => timestamp,
            (None, None) => return Err(MetadataError::Missing("timestamp")),
        };
        let priority = read::<u8>(&raw, "priority", "a whole number from 1 to 10")?.unwrap_or(DEFAULT_PRIORITY);
        if !(1..=10).contains(&priority) {
            return Err(MetadataError::Invalid { key: "priority", expected: "a whole number from 1 to 10" });
        }
        let max_attempts = read::<u16>(&raw, "max_attempts", "a whole number from 1 to 100")?;
        if max_attempts.is_some_and(|n| !(1..=100).contains(&n)) {
            return Err(MetadataError::Invalid { key: "max_attempts", expected: "a whole number from 1 to 100" });
        }
        Ok(Self {
            timestamp,
            project_id: read(&raw, "project_id", "text")?,
            user_id: read(&raw, "user_id", "text")?,
            correlation_id: read(&raw, "correlation_id", "text")?,
            causation_id: read(&raw, "causation_id", "text")?,
            sequence: read(&raw, "sequence", "a whole number")?,
            hops: read(&raw, "hops", "a whole number")?.unwrap_or(0),
            priority,
            max_attempts,
            deliver_at: read(&raw, "deliver_at", "an RFC 3339 time")?,
            idempotency_key: read(&raw, "idempotency_key", "text")?,
            traceparent: read(&raw, "traceparent", "text")?,
            raw,
        })
    }

    /// The same metadata with the sequence that the event log gave.
    #[must_use]
    pub fn with_sequence(mut self, sequence: i64) -> Self {
        self.sequence = Some(sequence);
        self.put("sequence", &sequence);
        self
    }

    /// A key that is not of the contract, as it came.
    #[must_use]
    pub fn other(&self, key: &str) -> Option<&RawValue> {
        self.raw.get(key).map(AsRef::as_ref)
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut raw = std::borrow::Cow::Borrowed(&self.raw);
        if !raw.contains_key("timestamp")
            && let Ok(value) = to_raw_value(&self.timestamp)
        {
            raw.to_mut().insert("timestamp".to_owned(), value);
        }
        serde_json::to_string(&*raw).unwrap_or_default()
    }

    fn put(&mut self, key: &str, value: &impl serde::Serialize) {
        if let Ok(value) = to_raw_value(value) {
            self.raw.insert(key.to_owned(), value);
        }
    }
}

/// A key of the contract: absent and null are the same, anything else must be of its kind.
fn read<T: DeserializeOwned>(
    raw: &BTreeMap<String, Box<RawValue>>,
    key: &'static str,
    expected: &'static str,
) -> Result<Option<T>, MetadataError> {
    match raw.get(key) {
        None => Ok(None),
        Some(value) => serde_json::from_str(value.get()).map_err(|_| MetadataError::Invalid { key, expected }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_timestamp_is_required() {
        let metadata = Metadata::parse(r#"{"timestamp":"2026-01-02T03:04:05Z"}"#, None).unwrap();
        assert_eq!((metadata.hops, metadata.priority, metadata.project_id), (0, DEFAULT_PRIORITY, None));
        assert_eq!(Metadata::parse("{}", None).unwrap_err(), MetadataError::Missing("timestamp"));
        assert_eq!(Metadata::parse("[]", None).unwrap_err(), MetadataError::NotAnObject);
    }

    #[test]
    fn a_row_without_a_timestamp_takes_its_own() {
        let metadata = Metadata::parse("{}", Some("2026-01-02T03:04:05Z".parse().unwrap())).unwrap();
        assert_eq!(metadata.to_json(), r#"{"timestamp":"2026-01-02T03:04:05Z"}"#);
    }

    #[test]
    fn unknown_keys_pass_through_as_they_came() {
        let text = r#"{"timestamp":"2026-01-02T03:04:05+01:00","x":1.0,"y":[18446744073709551617]}"#;
        assert_eq!(Metadata::parse(text, None).unwrap().to_json(), text);
    }

    #[test]
    fn a_key_of_ours_with_another_kind_of_value_is_named() {
        for (key, value) in [("hops", "-1"), ("priority", "11"), ("max_attempts", "0"), ("user_id", "7")] {
            let text = format!(r#"{{"timestamp":"2026-01-02T03:04:05Z","{key}":{value}}}"#);
            let error = Metadata::parse(&text, None).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn the_log_s_sequence_replaces_any_other() {
        let text = r#"{"timestamp":"2026-01-02T03:04:05Z","sequence":1}"#;
        let metadata = Metadata::parse(text, None).unwrap().with_sequence(42);
        assert_eq!(metadata.to_json(), r#"{"sequence":42,"timestamp":"2026-01-02T03:04:05Z"}"#);
    }
}
