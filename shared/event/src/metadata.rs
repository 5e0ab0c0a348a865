//! What is known about an event beside its payload.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use std::{collections::BTreeMap, ops::RangeInclusive};
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
    /// When the chain's first reaction was said, where this is a later one: what the chain's time to live counts from.
    pub started_at: Option<Timestamp>,
    /// How often a person has edited the payload, where one has. Set on the way to an agent; the table's row stays as it was.
    pub revision: Option<u32>,
    /// That the payload was too large for a message and stays in the table. Set on the way to an agent, and gone before the agent sees it.
    pub claim_check: Option<ClaimCheck>,
    /// Every key as it came, ours included: what goes out again.
    raw: BTreeMap<String, Box<RawValue>>,
}

/// What a message carries in the place of a payload that is too large for it (Gregor Hohpe and Bobby Woolf, "Enterprise Integration Patterns",
/// 2003: "Claim Check").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimCheck {
    /// How long the payload is, in bytes, as it stood when the message was made.
    pub bytes: u64,
}

/// The keys that only the way to an agent sets: what an application writes there is no statement of ours.
const SET_ON_THE_WAY: [&str; 3] = ["sequence", "revision", "claim_check"];

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
    /// Reads the metadata of a body from the wire: strict on the keys of the contract, silent on others.
    ///
    /// # Errors
    /// [`MetadataError`], naming the key.
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        let raw: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(text).map_err(|_| MetadataError::NotAnObject)?;
        Ok(Self {
            timestamp: read(&raw, "timestamp", TIME)?.ok_or(MetadataError::Missing("timestamp"))?,
            project_id: read(&raw, "project_id", TEXT)?,
            user_id: read(&raw, "user_id", TEXT)?,
            correlation_id: read(&raw, "correlation_id", TEXT)?,
            causation_id: read(&raw, "causation_id", TEXT)?,
            sequence: read(&raw, "sequence", WHOLE)?,
            hops: read(&raw, "hops", WHOLE)?.unwrap_or(0),
            priority: within(read(&raw, "priority", PRIORITY)?, 1..=10, "priority", PRIORITY)?
                .unwrap_or(DEFAULT_PRIORITY),
            max_attempts: within(read(&raw, "max_attempts", ATTEMPTS)?, 1..=100, "max_attempts", ATTEMPTS)?,
            deliver_at: read(&raw, "deliver_at", TIME)?,
            idempotency_key: read(&raw, "idempotency_key", TEXT)?,
            traceparent: read(&raw, "traceparent", TEXT)?,
            started_at: read(&raw, "started_at", TIME)?,
            revision: read(&raw, "revision", WHOLE)?,
            claim_check: read(&raw, "claim_check", CLAIM_CHECK)?,
            raw,
        })
    }

    /// Reads the metadata of a row of the table, where an application may have written anything: an event is worth more than its priority. A
    /// key of ours with a value of another kind is left out, and so is what only the way to an agent sets (`sequence`, `revision`,
    /// `claim_check`); `written` stands in for a missing timestamp, and nothing at all is an empty object.
    ///
    /// # Errors
    /// [`MetadataError::NotAnObject`].
    pub fn of_row(text: Option<&str>, written: Timestamp) -> Result<Self, MetadataError> {
        let mut raw: BTreeMap<String, Box<RawValue>> = match text {
            None | Some("null") => BTreeMap::new(),
            Some(text) => serde_json::from_str(text).map_err(|_| MetadataError::NotAnObject)?,
        };
        for key in SET_ON_THE_WAY {
            raw.remove(key);
        }
        loop {
            let text = serde_json::to_string(&raw).map_err(|_| MetadataError::NotAnObject)?;
            match Self::parse(&text) {
                Ok(metadata) => return Ok(metadata),
                Err(MetadataError::Missing(key) | MetadataError::Invalid { key, .. }) if key == "timestamp" => {
                    raw.insert(key.to_owned(), to_raw_value(&written).map_err(|_| MetadataError::NotAnObject)?);
                }
                Err(MetadataError::Missing(key) | MetadataError::Invalid { key, .. }) => {
                    raw.remove(key);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The same metadata with the sequence that the event log gave.
    #[must_use]
    pub fn with_sequence(mut self, sequence: i64) -> Self {
        self.sequence = Some(sequence);
        self.put("sequence", &sequence);
        self
    }

    /// The same metadata, saying that a person has edited the payload so often.
    #[must_use]
    pub fn with_revision(mut self, revision: u32) -> Self {
        self.revision = Some(revision);
        self.put("revision", &revision);
        self
    }

    /// The same metadata with a claim check in the place of a payload of so many bytes.
    #[must_use]
    pub fn with_claim_check(mut self, bytes: u64) -> Self {
        let claim_check = ClaimCheck { bytes };
        self.claim_check = Some(claim_check);
        self.put("claim_check", &claim_check);
        self
    }

    /// The payload is there: the claim check has done its work.
    pub(crate) fn redeem_claim_check(&mut self) {
        self.claim_check = None;
        self.raw.remove("claim_check");
    }

    /// When its chain began, as far as its time to live goes: with the first reaction to its first event, which may itself be old and have
    /// waited long. A delay that was asked for moves the beginning on: waiting on purpose is not running away.
    #[must_use]
    pub fn chain_began(&self) -> Timestamp {
        let began = self.started_at.unwrap_or(self.timestamp);
        self.deliver_at.map_or(began, |deliver_at| began.max(deliver_at))
    }

    /// A key that is not of the contract, as it came.
    #[must_use]
    pub fn other(&self, key: &str) -> Option<&RawValue> {
        self.raw.get(key).map(AsRef::as_ref)
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.raw).unwrap_or_default()
    }

    fn put(&mut self, key: &str, value: &impl Serialize) {
        if let Ok(value) = to_raw_value(value) {
            self.raw.insert(key.to_owned(), value);
        }
    }
}

const TEXT: &str = "text";
const TIME: &str = "an RFC 3339 time";
const WHOLE: &str = "a whole number";
const PRIORITY: &str = "a whole number from 1 to 10";
const CLAIM_CHECK: &str = "an object with the payload's size as `bytes`";
const ATTEMPTS: &str = "a whole number from 1 to 100";

/// A number of the contract with its bounds.
fn within<T: PartialOrd>(
    value: Option<T>,
    bounds: RangeInclusive<T>,
    key: &'static str,
    expected: &'static str,
) -> Result<Option<T>, MetadataError> {
    match value {
        Some(value) if !bounds.contains(&value) => Err(MetadataError::Invalid { key, expected }),
        value => Ok(value),
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

    fn written() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    #[test]
    fn only_the_timestamp_is_required() {
        let metadata = Metadata::parse(r#"{"timestamp":"2026-01-02T03:04:05Z"}"#).unwrap();
        assert_eq!((metadata.hops, metadata.priority, metadata.project_id), (0, DEFAULT_PRIORITY, None));
        assert_eq!(Metadata::parse("{}").unwrap_err(), MetadataError::Missing("timestamp"));
        assert_eq!(Metadata::parse("[]").unwrap_err(), MetadataError::NotAnObject);
    }

    #[test]
    fn a_row_without_a_timestamp_takes_the_time_it_was_written() {
        for text in [None, Some("null"), Some("{}"), Some(r#"{"timestamp":null}"#), Some(r#"{"timestamp":"tomorrow"}"#)]
        {
            let metadata = Metadata::of_row(text, written()).unwrap();
            assert_eq!(metadata.to_json(), r#"{"timestamp":"2026-01-02T03:04:05Z"}"#, "{text:?}");
        }
        assert_eq!(Metadata::of_row(Some("[]"), written()).unwrap_err(), MetadataError::NotAnObject);
    }

    #[test]
    fn a_row_loses_only_a_known_key_of_the_wrong_type() {
        let text = r#"{"hops":"many","priority":0,"max_attempts":500,"project_id":42,"deliver_at":"soon","user_id":"u","x":[1.0]}"#;
        let metadata = Metadata::of_row(Some(text), written()).unwrap();
        assert_eq!(metadata.to_json(), r#"{"timestamp":"2026-01-02T03:04:05Z","user_id":"u","x":[1.0]}"#);
        assert!(Metadata::parse(&metadata.to_json()).is_ok());
    }

    #[test]
    fn a_row_cannot_set_sequence_revision_or_claim_check() {
        let text = r#"{"sequence":7,"revision":3,"claim_check":{"bytes":1},"hops":2}"#;
        let metadata = Metadata::of_row(Some(text), written()).unwrap();
        assert_eq!(metadata.to_json(), r#"{"hops":2,"timestamp":"2026-01-02T03:04:05Z"}"#);
    }

    #[test]
    fn a_claim_check_goes_over_the_wire_and_leaves_no_trace_when_redeemed() {
        let plain = Metadata::of_row(None, written()).unwrap();
        let mut checked = Metadata::parse(&plain.clone().with_claim_check(300_000).with_revision(2).to_json()).unwrap();
        assert_eq!((checked.claim_check, checked.revision), (Some(ClaimCheck { bytes: 300_000 }), Some(2)));
        checked.redeem_claim_check();
        let redeemed = Metadata::parse(&checked.to_json()).unwrap();
        assert_eq!((redeemed.claim_check, redeemed.revision), (None, Some(2)));
    }

    #[test]
    fn the_start_of_a_chain_is_its_own_the_event_s_or_the_delivery_time() {
        let began = |text: &str| Metadata::parse(text).unwrap().chain_began().to_string();
        assert_eq!(began(r#"{"timestamp":"2026-01-02T03:04:05Z"}"#), "2026-01-02T03:04:05Z");
        let started = r#"{"timestamp":"2026-01-02T03:04:05Z","started_at":"2026-01-01T00:00:00Z"}"#;
        assert_eq!(began(started), "2026-01-01T00:00:00Z");
        let delayed = started.replace('}', r#","deliver_at":"2026-01-09T00:00:00Z"}"#);
        assert_eq!(began(&delayed), "2026-01-09T00:00:00Z");
    }

    #[test]
    fn unknown_keys_pass_through_as_they_came() {
        let text = r#"{"timestamp":"2026-01-02T03:04:05+01:00","x":1.0,"y":[18446744073709551617]}"#;
        assert_eq!(Metadata::parse(text).unwrap().to_json(), text);
    }

    #[test]
    fn a_known_key_of_the_wrong_type_is_reported() {
        for (key, value) in [("hops", "-1"), ("priority", "11"), ("max_attempts", "0"), ("user_id", "7")] {
            let text = format!(r#"{{"timestamp":"2026-01-02T03:04:05Z","{key}":{value}}}"#);
            let error = Metadata::parse(&text).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn the_log_s_sequence_replaces_any_other() {
        let text = r#"{"timestamp":"2026-01-02T03:04:05Z","sequence":1}"#;
        let metadata = Metadata::parse(text).unwrap().with_sequence(42);
        assert_eq!(metadata.to_json(), r#"{"sequence":42,"timestamp":"2026-01-02T03:04:05Z"}"#);
    }
}
