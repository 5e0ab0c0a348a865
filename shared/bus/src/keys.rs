//! The keys by which SQS and SNS order messages, drop copies and share out a queue.

use crate::Kind;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The longest group or deduplication id (Amazon SQS API Reference, SendMessage).
const LONGEST: usize = 128;

/// A message's group, deduplication id and tenant. Which of them count depends on the [`Kind`] of the queue or topic: a FIFO one takes the group
/// and the deduplication id and refuses a message without them; a standard one takes the tenant, where there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// FIFO: the messages of a group are handled in order, one after the other.
    pub group: Option<String>,
    /// FIFO: a message with an id that was sent within the last five minutes is accepted, and dropped.
    pub deduplication_id: Option<String>,
    /// Standard: the tenant of a fair queue. SQS serves quiet tenants first while a loud one has a backlog (Amazon SQS Developer Guide, "Amazon SQS fair
    /// queues").
    pub tenant: Option<String>,
}

impl Keys {
    /// A group or deduplication id as the services take it: up to 128 characters of ASCII that print, no space among them (Amazon SQS API
    /// Reference, SendMessage). Any other text is replaced by its hash, so that equal texts stay equal.
    #[must_use]
    pub fn id(text: &str) -> String {
        if (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return text.to_owned();
        }
        Sha256::digest(text).iter().fold("sha256:".to_owned(), |mut id, byte| {
            let _ = write!(id, "{byte:02x}");
            id
        })
    }

    /// The message group id and the deduplication id that a queue or topic of this kind takes.
    pub(crate) fn ids(&self, kind: Kind) -> (Option<String>, Option<String>) {
        match kind {
            Kind::Fifo => (self.group.clone(), self.deduplication_id.clone()),
            Kind::Standard => (self.tenant.clone(), None),
        }
    }

    /// The keys of a message from a queue or topic of this kind.
    pub(crate) fn of(kind: Kind, group: Option<String>, deduplication_id: Option<String>) -> Self {
        match kind {
            Kind::Fifo => Self { group, deduplication_id, tenant: None },
            Kind::Standard => Self { tenant: group, ..Self::default() },
        }
    }

    /// Why no FIFO queue or topic takes a message with these keys; `None` where they do.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match (&self.group, &self.deduplication_id) {
            (None, _) => Some("the message has no group, and FIFO needs one"),
            (_, None) => Some("the message has no deduplication id"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_that_the_services_take_is_its_own_id() {
        for text in ["post-1", "2f6c2f0e-6d1c-4b8e-9d11-0d7b2f1c7a10", "a:b/c|d~`{}", &"x".repeat(128)] {
            assert_eq!(Keys::id(text), text);
        }
    }

    #[test]
    fn a_text_that_they_refuse_becomes_a_hash() {
        for text in ["", "two words", "größe", "tab\t", "\u{7f}", &"x".repeat(129)] {
            let id = Keys::id(text);
            assert!(id.starts_with("sha256:") && id.len() == 71, "{text:?} became {id}");
        }
    }

    proptest! {
        #[test]
        fn every_id_is_one_that_the_services_take_and_different_texts_have_different_ones(a in ".{0,200}", b in ".{0,200}") {
            let (one, other) = (Keys::id(&a), Keys::id(&b));
            prop_assert!((1..=LONGEST).contains(&one.len()) && one.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
            prop_assert_eq!(a == b, one == other);
        }
    }
}
