//! A received message and the answer to it, whatever the transport.

use std::{collections::BTreeMap, time::Duration};
use switchyard_operations::dead_letter::WasParked;

/// A message as a queue delivered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The queue's id for it. A redrive assigns a new one.
    pub id: String,
    /// What the queue wants back for it to be acknowledged or delayed: the handle of this receive.
    pub receipt: String,
    /// The body: an event as JSON, or anything else.
    pub body: String,
    /// Its attributes, by name: `run`, `epoch`, `traceparent`, and what the dead-letter queue says if it was moved back from there.
    pub attributes: BTreeMap<String, String>,
    /// What the queue keeps it in order with. `None` on a queue that keeps no order, whatever groups it has for other purposes.
    pub group: Option<String>,
    /// How often it was received, this time included. It goes on counting after a redrive.
    pub receives: u32,
    /// Which of the agent's queues delivered it, as [`Queues`](switchyard_bus::Queues) knows them. `None` where the agent has only one.
    pub queue: Option<String>,
}

impl Message {
    /// A message that is received for the first time, from a queue that keeps no order.
    pub fn new(id: impl Into<String>, receipt: impl Into<String>, body: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            receipt: receipt.into(),
            body: body.into(),
            attributes: BTreeMap::new(),
            group: None,
            receives: 1,
            queue: None,
        }
    }

    /// The value of an attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<i32> {
        self.attribute(name)?.parse().ok()
    }

    /// 0 for a live event, the number of a replay or a backfill otherwise.
    pub(crate) fn run(&self) -> i32 {
        self.number("run").unwrap_or(0)
    }

    /// The epoch of the delivery that the message was sent for, where it was sent for one.
    pub(crate) fn epoch(&self) -> Option<i32> {
        self.number("epoch")
    }

    /// W3C Trace Context.
    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.attribute("traceparent")
    }

    /// What it says of its parking, if it was moved back from a dead-letter queue.
    pub(crate) fn was_parked(&self) -> Option<WasParked> {
        WasParked::of(|name| self.attribute(name).map(str::to_owned))
    }
}

/// What becomes of a received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is settled: the queue deletes it.
    Acknowledge,
    /// It is delivered again.
    Redeliver {
        /// After so long, which the queue has been asked for. `None` where it has not: when the queue's own visibility timeout ends.
        after: Option<Duration>,
    },
}

impl Answer {
    /// Whether the message is delivered again.
    #[must_use]
    pub const fn is_redelivery(self) -> bool {
        matches!(self, Self::Redeliver { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(attributes: &[(&str, &str)]) -> Message {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Message { attributes: attributes.collect(), ..Message::new("m", "r", "{}") }
    }

    #[test]
    fn attributes_say_which_delivery_a_message_belongs_to() {
        let of = |attributes: &[(&str, &str)]| (with(attributes).run(), with(attributes).epoch());
        assert_eq!(of(&[("run", "12"), ("epoch", "3")]), (12, Some(3)));
        assert_eq!(of(&[("run", "12"), ("epoch", "x")]), (12, None));
        assert_eq!(of(&[]), (0, None), "a live event");
    }

    #[test]
    fn a_message_that_was_moved_back_says_why_it_was_parked() {
        let parked = with(&[("reason", "no_text"), ("attempts", "2"), ("failed_at", "2026-01-05T09:30:00Z")]);
        let was_parked = parked.was_parked().map(|parked| (parked.reason, parked.attempts));
        assert_eq!(was_parked, Some(("no_text".to_owned(), 2)));
        assert_eq!(with(&[("run", "0")]).was_parked(), None);
    }
}
