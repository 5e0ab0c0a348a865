//! What SQS and SNS order a message by, and recognise a copy of it by.

use crate::Kind;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The longest group or deduplication id (Amazon SQS API Reference, SendMessage).
const LONGEST: usize = 128;

/// What a message is ordered, recognised and shared out by. Which of it counts is a question of the [`Kind`] of the queue or topic: one of
/// FIFO takes the group and the copy's id and refuses a message without them; a standard one takes the tenant, where there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// FIFO: what is in one group is handled in its order, one after the other.
    pub group: Option<String>,
    /// FIFO: the deduplication id. What has one that was sent within the last five minutes is taken, and dropped.
    pub once: Option<String>,
    /// Standard: whose message it is. SQS serves quiet tenants first while a loud one has a backlog (Amazon SQS Developer Guide, "Amazon SQS fair
    /// queues").
    pub tenant: Option<String>,
}

impl Keys {
    /// The id of a group or of a copy as the services take it: up to 128 characters of ASCII that print, no space among them (Amazon SQS API
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

    /// What a queue or topic of this kind is told: the message group's id and the deduplication id.
    pub(crate) fn told(&self, kind: Kind) -> (Option<String>, Option<String>) {
        match kind {
            Kind::Fifo => (self.group.clone(), self.once.clone()),
            Kind::Standard => (self.tenant.clone(), None),
        }
    }

    /// What one of this kind tells of a message.
    pub(crate) fn of(kind: Kind, group: Option<String>, once: Option<String>) -> Self {
        match kind {
            Kind::Fifo => Self { group, once, tenant: None },
            Kind::Standard => Self { tenant: group, ..Self::default() },
        }
    }

    /// Why no queue or topic of FIFO takes a message with these, if none does.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match (&self.group, &self.once) {
            (None, _) => Some("the message has no group, and FIFO orders by nothing else"),
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
    fn what_the_services_take_stays_readable() {
        for text in ["post-1", "2f6c2f0e-6d1c-4b8e-9d11-0d7b2f1c7a10", "a:b/c|d~`{}", &"x".repeat(128)] {
            assert_eq!(Keys::id(text), text);
        }
    }

    #[test]
    fn what_they_refuse_becomes_a_hash() {
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
