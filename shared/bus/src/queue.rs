//! One queue by its URL, for the functions that are not its agent: the steward, redrive, ingest.

mod in_turn;
mod memory;
mod sqs;

pub use memory::MemoryQueue;
pub use sqs::SqsQueue;

use crate::{BusError, Keys, Kind, MAX_ATTRIBUTES, Message, QUEUE_BYTES, message::refused};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

/// How full a queue is. SQS counts approximately: a number may be late by up to a minute (Amazon SQS Developer Guide, "Best practices for
/// Amazon SQS standard queues"), so 0 is a hint that it is empty, not a proof. SQS does not report the age of the
/// oldest message of a queue: receive it, and see [`Received::sent_at`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Waiting to be received.
    pub visible: u64,
    /// Received and neither deleted nor visible again.
    pub in_flight: u64,
    /// Sent with a delay that is not over.
    pub delayed: u64,
}

impl Depth {
    /// All messages, in whichever state.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.visible + self.in_flight + self.delayed
    }

    /// Whether the queue reports no message.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.total() == 0
    }
}

/// A message as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// What the sender sent, byte for byte.
    pub body: String,
    /// The values of its attributes. The types are dropped: only the topic's filter policies read those.
    pub attributes: BTreeMap<String, String>,
    /// The service's id of it; a redrive gives a new one, so deduplicate nothing by it.
    pub message_id: String,
    /// What deletes or releases it. Valid for this receive only.
    pub receipt_handle: String,
    /// When it was sent to its first queue: a dead-letter queue keeps the time of the queue before it. None where the queue does not say.
    pub sent_at: Option<SystemTime>,
    /// The keys that it was sent with. A move by the service may replace them.
    pub keys: Keys,
    /// How often it was received, this time included. Some implementations go on counting after a redrive.
    pub receives: u32,
}

impl Received {
    /// The same body, attributes and keys, to be sent to another queue. The attributes are texts: see [`Received::attributes`].
    #[must_use]
    pub fn again(&self) -> Message {
        let attributes = self.attributes.iter().take(MAX_ATTRIBUTES);
        attributes.fold(Message::new(self.body.clone()).keyed(self.keys.clone()), |message, (name, value)| {
            message.text(name.clone(), value.clone())
        })
    }
}

/// One queue.
///
/// On a standard queue delivery is at least once, and no order is promised. On a FIFO queue ([`crate::Kind`]) the messages of a group come in the
/// order in which they were sent; while one of them is received and neither deleted nor visible again, no other one of its group is received; and
/// a message with the deduplication id of a message of the last five minutes is accepted and dropped. Nothing is retried in here: the callers
/// own retries.
#[allow(async_fn_in_trait)]
pub trait Queue {
    /// How full it is, approximately.
    ///
    /// # Errors
    /// [`BusError`] where the queue does not answer or does not exist (`setup`).
    async fn depth(&self) -> Result<Depth, BusError>;

    /// Sends messages, any number of them: split into as many calls as they need ([`crate::pack`], 1 MiB a call).
    ///
    /// Atomicity: none. The answers are in the order of the messages. `Ok` is in the queue; `Err` may be there too where the call was not
    /// answered (`transient`), so a caller that tries again sends at least once. A message that no queue takes (no body, over 1 MiB with its
    /// attributes, a character that SQS refuses, on FIFO one without its keys) is refused by itself, not transient, and never sent; the others
    /// are. On FIFO a message behind one of its group that was not taken and may be later is not sent either (`transient`), so that it does not
    /// overtake it; the price is a call for each message of the longest group.
    async fn send(&self, messages: &[Message]) -> Vec<Result<(), BusError>>;

    /// Takes up to `max` messages (at most ten, the service's limit for a call) and hides them for `visibility` (whole seconds, rounded up, at
    /// most twelve hours; 0 leaves them visible). A caller that receives a message again before deleting it has two handles; the newer one is valid.
    ///
    /// An answer may hold fewer than are there. An empty one means that the queue was found empty: all of its servers were asked, which takes
    /// up to a second. On FIFO it means that nothing may be received now: a group with a received message may have more, and of
    /// one group at most ten are received at once.
    ///
    /// # Errors
    /// [`BusError`]: no message is known to be received; one that was comes again when its visibility timeout ends.
    async fn receive(&self, max: usize, visibility: Duration) -> Result<Vec<Received>, BusError>;

    /// Deletes received messages, any number of them. The answers are in the order of the handles. One that is gone already counts as
    /// deleted. One that could not be deleted comes again.
    async fn delete(&self, receipt_handles: &[String]) -> Vec<Result<(), BusError>>;

    /// Makes received messages visible again at once. Best effort: one that could not be released comes again when its visibility timeout ends.
    /// Returns how many could not.
    async fn release(&self, receipt_handles: &[String]) -> usize;
}

/// Why no queue takes this message; `None` where queues do.
fn fault(kind: Kind, message: &Message) -> Option<String> {
    let bytes = message.size();
    if message.body.is_empty() {
        return Some("the message has no body".to_owned());
    }
    if bytes > QUEUE_BYTES {
        return Some(format!("the message has {bytes} bytes with its attributes, a queue takes {QUEUE_BYTES}"));
    }
    if let Some(bad) = message.body.chars().find(|c| refused(*c)) {
        return Some(format!("the message contains U+{:04X}, which no queue takes", u32::from(bad)));
    }
    message.keys().fault().filter(|_| kind.is_fifo()).map(str::to_owned)
}

/// The twelve hours after which a received message comes again at the latest (Amazon SQS API Reference, ChangeMessageVisibility).
const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);

/// A visibility timeout as SQS takes it: whole seconds, never shorter than asked for.
pub(crate) fn whole_seconds(time: Duration) -> i32 {
    i32::try_from(time.min(LONGEST).as_millis().div_ceil(1_000)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_is_whole_seconds_rounded_up_and_at_most_twelve_hours() {
        let seconds = |millis| whole_seconds(Duration::from_millis(millis));
        assert_eq!([seconds(0), seconds(1), seconds(1_000), seconds(1_001)], [0, 1, 1, 2]);
        assert_eq!(whole_seconds(Duration::from_secs(u64::MAX)), 43_200);
    }

    #[test]
    fn a_message_of_one_mebibyte_fits_with_its_attributes_and_one_byte_more_does_not() {
        let attributes = || Message::new(String::new()).text("agent", "sentiment");
        let fits = QUEUE_BYTES - attributes().size();
        let of = |length: usize| {
            let mut message = attributes();
            message.body = "x".repeat(length);
            message
        };
        assert_eq!(fault(Kind::Standard, &of(fits)), None);
        assert!(fault(Kind::Standard, &of(fits + 1)).unwrap().contains("1048577 bytes"));
    }

    fn received(body: String, attributes: BTreeMap<String, String>) -> Received {
        let (message_id, receipt_handle) = ("1".into(), "1".into());
        let keys = Keys { group: Some("g".into()), deduplication_id: Some("o".into()), tenant: None };
        Received { body, attributes, message_id, receipt_handle, sent_at: None, keys, receives: 1 }
    }

    proptest! {
        #[test]
        fn a_received_message_is_sent_on_unchanged(
            body in ".{1,40}",
            attributes in prop::collection::btree_map("[a-z_]{1,12}", "[ -~é]{1,20}", 0..=MAX_ATTRIBUTES),
        ) {
            let again = received(body.clone(), attributes.clone()).again();
            prop_assert_eq!(&again.body, &body);
            prop_assert_eq!(again.keys().group.as_deref(), Some("g"));
            let carried: BTreeMap<String, String> =
                again.attributes().map(|(name, attribute)| (name.to_owned(), attribute.value.clone())).collect();
            prop_assert_eq!(carried, attributes);
        }

        #[test]
        fn a_body_is_refused_exactly_for_a_character_that_no_queue_takes(body in "[\\x00-\\x{10FFFF}]{1,20}") {
            let xml = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
            prop_assert_eq!(fault(Kind::Standard, &Message::new(body.clone())).is_none(), body.chars().all(xml));
        }
    }
}
