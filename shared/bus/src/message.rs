//! A message, measured as SNS measures it, and how messages are packed into calls.

use crate::Keys;
use std::{borrow::Cow, collections::BTreeMap};

/// How many entries one batch call takes (Amazon SNS API Reference, PublishBatch; Amazon SQS API Reference, SendMessageBatch).
pub const BATCH_ENTRIES: usize = 10;

/// How many bytes one publish takes, for a batch all of it together, attributes included (Amazon SNS API Reference, PublishBatch: 262,144
/// bytes). An opt-in on the topic raises it to 1 MiB.
pub const TOPIC_BYTES: usize = 256 * 1024;

/// How many bytes one send to a queue takes, for a batch all of it together, attributes included (Amazon SQS Developer Guide, "Amazon SQS
/// message quotas": 1 MiB).
pub const QUEUE_BYTES: usize = 1024 * 1024;

/// How many attributes a message may have. With raw delivery SNS discards a message that has more, in silence (Amazon SNS Developer Guide,
/// "Amazon SNS raw message delivery").
pub const MAX_ATTRIBUTES: usize = 10;

/// A body with its attributes, all of them strings or numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The receiver gets exactly this.
    pub body: String,
    attributes: BTreeMap<Cow<'static, str>, Attribute>,
    keys: Keys,
}

/// The value of an attribute and its data type as SNS spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) kind: &'static str,
    pub(crate) value: String,
}

impl Message {
    /// A message without attributes.
    #[must_use]
    pub const fn new(body: String) -> Self {
        Self { body, attributes: BTreeMap::new(), keys: Keys { group: None, deduplication_id: None, tenant: None } }
    }

    /// Adds an attribute of type String. An empty one is left out: SNS and SQS refuse empty values.
    #[must_use]
    pub fn text(self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.with(name.into(), "String", value.into())
    }

    /// Adds an attribute of type Number.
    #[must_use]
    pub fn number(self, name: impl Into<Cow<'static, str>>, value: i64) -> Self {
        self.with(name.into(), "Number", value.to_string())
    }

    /// Sets the group and the deduplication id, for FIFO. Any text: see [`Keys::id`].
    #[must_use]
    pub fn in_group(mut self, group: &str, deduplication_id: &str) -> Self {
        (self.keys.group, self.keys.deduplication_id) = (Some(Keys::id(group)), Some(Keys::id(deduplication_id)));
        self
    }

    /// Sets the tenant, for fair queues; an empty text sets none.
    #[must_use]
    pub fn of_tenant(mut self, tenant: &str) -> Self {
        self.keys.tenant = (!tenant.is_empty()).then(|| Keys::id(tenant));
        self
    }

    /// With the keys that another message was received with.
    #[must_use]
    pub fn keyed(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// Its group, deduplication id and tenant.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    fn with(mut self, name: Cow<'static, str>, kind: &'static str, value: String) -> Self {
        let room = self.attributes.len() < MAX_ATTRIBUTES || self.attributes.contains_key(&name);
        debug_assert!(room, "an eleventh attribute would make SNS discard the message");
        if room && !value.is_empty() {
            self.attributes.insert(name, Attribute { kind, value: sendable(value) });
        }
        self
    }

    /// An attribute's value.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(|attribute| attribute.value.as_str())
    }

    pub(crate) fn attributes(&self) -> impl Iterator<Item = (&str, &Attribute)> {
        self.attributes.iter().map(|(name, attribute)| (name.as_ref(), attribute))
    }

    /// Its size in bytes as SNS and SQS count it: the body, and each attribute's name, type and value (Amazon SNS Developer Guide, "Amazon
    /// SNS message attributes").
    #[must_use]
    pub fn size(&self) -> usize {
        self.body.len()
            + self.attributes.iter().map(|(name, a)| name.len() + a.kind.len() + a.value.len()).sum::<usize>()
    }
}

/// Whether SQS refuses a text that holds this (Amazon SQS API Reference, SendMessage: `#x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD |
/// #x10000 to #x10FFFF` pass).
pub(crate) fn refused(c: char) -> bool {
    (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{FFFE}' | '\u{FFFF}')
}

/// The text with the characters that SQS refuses replaced: a coloured error message must not keep a message out of its dead-letter queue.
fn sendable(value: String) -> String {
    if value.contains(refused) { value.replace(refused, "\u{FFFD}") } else { value }
}

/// Splits a list into calls: in order, at most [`BATCH_ENTRIES`] each, at most `max_bytes` in all. One that is larger than `max_bytes` by
/// itself gets a call of its own, and the service refuses that one alone.
pub fn pack<T>(entries: Vec<T>, max_bytes: usize, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let sum_ignored = switchyard_faults::bug("batch_sum_ignored");
    let mut calls: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let more = size(&entry);
        match calls.last_mut() {
            Some(call) if call.len() < BATCH_ENTRIES && (bytes + more <= max_bytes || sum_ignored) => {
                bytes += more;
                call.push(entry);
            }
            _ => {
                bytes = more;
                calls.push(vec![entry]);
            }
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_size_counts_names_types_and_values() {
        let message = Message::new("é".into()).text("ab", "xyz").number("n", -10);
        assert_eq!(message.size(), 2 + (2 + 6 + 3) + (1 + 6 + 3));
    }

    #[test]
    fn a_character_that_sqs_refuses_is_replaced_in_an_attribute() {
        let message = Message::new(String::new()).text("error", "\u{1b}[31mno\u{ffff}\n");
        assert_eq!(message.attribute("error"), Some("\u{fffd}[31mno\u{fffd}\n"));
    }

    #[test]
    fn an_empty_attribute_is_left_out() {
        assert_eq!(Message::new(String::new()).text("a", "").attribute("a"), None);
    }

    proptest! {
        #[test]
        fn packing_keeps_every_entry_in_order_and_within_the_limits(sizes in prop::collection::vec(0usize..400, 0..60)) {
            let calls = pack(sizes.clone(), 1_000, |size| *size);
            for call in &calls {
                prop_assert!(!call.is_empty() && call.len() <= BATCH_ENTRIES);
                prop_assert!(call.iter().sum::<usize>() <= 1_000);
            }
            prop_assert_eq!(calls.concat(), sizes);
        }
    }
}
