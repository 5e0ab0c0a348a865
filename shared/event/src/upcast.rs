//! Older versions of a payload, brought to the newest: what an agent reads is one version of each type, the newest that it knows.
//!
//! A step works on the payload's top-level fields and leaves each value as the text that it is, so what a step does not touch arrives exactly.

use crate::{Event, EventType, Reason};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::value::{RawValue, to_raw_value};
use std::fmt;
use thiserror::Error;

/// One step: a payload of one type from one version to the next.
#[derive(Debug, Clone)]
pub struct Upcast {
    /// The type that it is for.
    pub event_type: EventType,
    /// The version that it starts from; it ends at the next one.
    pub from: u32,
    /// What it does. An error is a person's to read and never holds a value of the payload.
    pub step: fn(&mut Fields) -> Result<(), String>,
}

/// Why an event is not of the version that an agent reads. Permanent, until a deployment or an edit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UpcastError {
    /// A version from the future, or one from the past that no step starts from.
    #[error("{event_type} of version {version}; this agent knows {known}: deploy one that knows it, then redrive")]
    UnknownVersion {
        /// The event's type.
        event_type: EventType,
        /// The event's version.
        version: u32,
        /// What is known, in words.
        known: String,
    },
    /// A step could not do it.
    #[error("{event_type} of version {version} could not be brought to the next: {detail}")]
    Failed {
        /// The event's type.
        event_type: EventType,
        /// The version that the step started from.
        version: u32,
        /// Why, in words.
        detail: String,
    },
}

impl UpcastError {
    /// The word for it.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::UnknownVersion { .. } => Reason::UnknownVersion,
            Self::Failed { .. } => Reason::UpcastFailed,
        }
    }
}

/// The newest version of a type that is known to who has these steps: one more than the highest that a step starts from, 1 where none does.
#[must_use]
pub fn newest(steps: &[Upcast], event_type: &EventType) -> u32 {
    let own = steps.iter().filter(|upcast| upcast.event_type == *event_type);
    own.map(|upcast| upcast.from.saturating_add(1)).max().unwrap_or(1)
}

/// Brings an event's payload to the newest version that these steps know, one step after the other. One that is there already stays as it is,
/// to the letter.
///
/// # Errors
/// [`UpcastError::UnknownVersion`] for a newer version, and for an older one where a step is missing; [`UpcastError::Failed`] where a step
/// fails, or the payload is no object. The event stays as it was then.
pub fn upcast(event: &mut Event, steps: &[Upcast]) -> Result<(), UpcastError> {
    let (newest, first) = (newest(steps, &event.event_type), event.version);
    if first == newest {
        return Ok(());
    }
    let event_type = event.event_type.clone();
    let unknown = |known: String| UpcastError::UnknownVersion { event_type: event_type.clone(), version: first, known };
    if first > newest {
        return Err(unknown(format!("versions up to {newest}")));
    }
    let failed = |version, detail: String| UpcastError::Failed { event_type: event_type.clone(), version, detail };
    let mut fields: Fields =
        serde_json::from_str(event.payload()).map_err(|_| failed(first, "the payload is not an object".to_owned()))?;
    for version in first..newest {
        let step = steps.iter().find(|upcast| upcast.event_type == event_type && upcast.from == version);
        let step = step.ok_or_else(|| unknown(format!("version {newest} and no way to it from version {version}")))?;
        (step.step)(&mut fields).map_err(|detail| failed(version, detail))?;
    }
    event.set_payload(fields.to_json()).map_err(|error| failed(newest.saturating_sub(1), error.to_string()))?;
    event.version = newest;
    Ok(())
}

/// The top-level fields of a payload in their order, each the text that it is.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    /// Whether there is such a field.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(field, _)| field == name)
    }

    /// A field's value.
    ///
    /// # Errors
    /// In words, where the field is absent or of another kind.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T, String> {
        let (_, value) = self.0.iter().find(|(field, _)| field == name).ok_or_else(|| absent(name))?;
        serde_json::from_str(value.get()).map_err(|_| format!("the field {name:?} is of another kind"))
    }

    /// Sets a field: in its place where it is there, at the end otherwise.
    ///
    /// # Errors
    /// In words, where the value does not serialise.
    pub fn put(&mut self, name: &str, value: &impl Serialize) -> Result<(), String> {
        let value = to_raw_value(value).map_err(|_| format!("the field {name:?} cannot be written as JSON"))?;
        match self.0.iter_mut().find(|(field, _)| field == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// Gives a field another name, in its place; the value stays the text that it is.
    ///
    /// # Errors
    /// In words, where the field is absent or the name is taken.
    pub fn rename(&mut self, name: &str, other: &str) -> Result<(), String> {
        if self.has(other) {
            return Err(format!("there is a field {other:?} already"));
        }
        let (field, _) = self.0.iter_mut().find(|(field, _)| field == name).ok_or_else(|| absent(name))?;
        other.clone_into(field);
        Ok(())
    }

    /// Removes a field, if it is there.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(field, _)| field != name);
    }

    fn to_json(&self) -> String {
        let fields = self.0.iter().map(|(name, value)| format!("{}:{}", serde_json::Value::from(name.as_str()), value));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    }
}

fn absent(name: &str) -> String {
    format!("the field {name:?} is absent")
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields, M::Error> {
                let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(8));
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIND: EventType = EventType::named("thing.happened");

    /// Version 2 calls the thing by another name, version 3 counts in a list.
    const STEPS: &[Upcast] = &[
        Upcast { event_type: KIND, from: 1, step: |fields| fields.rename("old", "new") },
        Upcast {
            event_type: KIND,
            from: 2,
            step: |fields| {
                let n: i64 = fields.get("n")?;
                fields.remove("n");
                fields.put("list", &[n])
            },
        },
    ];

    fn event(payload: &str, version: u32) -> Event {
        let body = include_str!("../fixtures/order.placed.v1.json");
        let metadata = Event::parse(body).unwrap().metadata;
        Event::from_parts(uuid::Uuid::nil(), KIND, ("t".into(), "t".into()), payload.into(), version, metadata).unwrap()
    }

    fn brought(mut event: Event, steps: &[Upcast]) -> Result<Event, UpcastError> {
        upcast(&mut event, steps).map(|()| event)
    }

    #[test]
    fn a_chain_of_steps_leads_from_any_known_version_to_the_newest() {
        for (version, payload) in
            [(1, r#"{"old":"a","n":1}"#), (2, r#"{"new":"a","n":1}"#), (3, r#"{"new":"a","list":[1]}"#)]
        {
            let event = brought(event(payload, version), STEPS).unwrap();
            assert_eq!((event.version, event.payload()), (3, r#"{"new":"a","list":[1]}"#), "from {version}");
        }
    }

    #[test]
    fn an_upcast_leaves_other_fields_unchanged() {
        let odd = r#"{"z":1.0,"old":18446744073709551617,"a": {"k" :[1e400, "\u00e9"]}}"#;
        let event = brought(event(odd, 1), &STEPS[..1]).unwrap();
        assert_eq!(event.payload(), r#"{"z":1.0,"new":18446744073709551617,"a":{"k" :[1e400, "\u00e9"]}}"#);
    }

    #[test]
    fn a_version_from_the_future_is_unknown_and_so_is_one_that_no_step_starts_from() {
        let error = brought(event("{}", 4), STEPS).unwrap_err();
        assert_eq!(error.reason(), Reason::UnknownVersion);
        assert!(error.to_string().contains("thing.happened of version 4") && error.to_string().contains("up to 3"));
        assert_eq!(brought(event("{}", 1), &STEPS[1..]).unwrap_err().reason(), Reason::UnknownVersion);
        assert_eq!(brought(event("{}", 2), &[]).unwrap_err().reason(), Reason::UnknownVersion);
        assert!(brought(event("[]", 1), &[]).is_ok(), "what is of the newest version is nobody's to judge");
    }

    #[test]
    fn a_step_that_fails_names_the_field_and_no_value() {
        for (payload, word) in [(r#"{"old":1,"n":"hunter2"}"#, "\"n\""), (r#"{"n":1}"#, "\"old\""), ("[]", "object")] {
            let error = brought(event(payload, 1), STEPS).unwrap_err();
            assert_eq!(error.reason(), Reason::UpcastFailed);
            assert!(error.to_string().contains(word) && !error.to_string().contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_step_that_does_nothing_changes_no_field(
            fields in prop::collection::btree_map("[^\\x00]{0,8}", "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?", 0..6),
        ) {
            let nothing = [Upcast { event_type: KIND, from: 1, step: |_| Ok(()) }];
            let fields = fields.iter().map(|(name, number)| format!("{}:{number}", serde_json::Value::from(name.as_str())));
            let payload = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
            let event = brought(event(&payload, 1), &nothing).unwrap();
            prop_assert_eq!(event.payload(), payload.as_str());
        }
    }
}
