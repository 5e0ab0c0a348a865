//! A letter for a dead-letter queue: the body as it came, and why it lies there.

use jiff::Timestamp;
use std::fmt::Display;
use switchyard_bus::Message;
use switchyard_event::Event;

/// The longest text of an error in an attribute, in bytes: the whole of it stands in `switchyard.failure`.
const LONGEST_ERROR: usize = 1_024;

/// What a dead-letter queue is told.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// Whose queue it came from.
    pub agent: &'a str,
    /// The body as it came.
    pub body: &'a str,
    /// What the queue named the message that is buried: on FIFO, what tells this burial from that of another message of the same event.
    pub message_id: &'a str,
    /// A short stable word: what failures are grouped by.
    pub reason: &'a str,
    /// What happened, for people; cut at 1,024 bytes.
    pub error: &'a str,
    /// How many attempts it had, and how often it was moved back in vain.
    pub attempts: u16,
    /// 0 for live events, a replay's number otherwise.
    pub run: i32,
    /// The delivery's epoch, where the message named one.
    pub epoch: Option<i32>,
    /// W3C Trace Context.
    pub traceparent: Option<&'a str>,
}

impl Letter<'_> {
    /// The message to send. Ten attributes, as many as SQS takes: the run and the epoch are among them, so that a letter which is moved back
    /// still belongs to its delivery.
    ///
    /// On FIFO each letter has a group of its own: nobody hears a dead-letter queue in order, and while somebody looks at ten letters of a group,
    /// the others of it would be out of sight.
    #[must_use]
    pub fn message(&self) -> Message {
        let event = Event::parse(self.body).ok();
        let id = Event::id_of(self.body).map(|id| id.to_string());
        let once = self.once(id.as_deref().unwrap_or(self.body), self.run, self.epoch.unwrap_or(0));
        Message::new(self.body.to_owned())
            .in_group(&once, &once)
            .text("agent", self.agent)
            .text("reason", self.reason)
            .text("error", truncate(self.error, LONGEST_ERROR))
            .number("attempts", i64::from(self.attempts))
            .text("failed_at", Timestamp::now().to_string())
            .text("event_id", id.unwrap_or_default())
            .text("event_type", event.map(|event| event.event_type.to_string()).unwrap_or_default())
            .number("run", i64::from(self.run))
            .text("epoch", self.epoch.map(|epoch| epoch.to_string()).unwrap_or_default())
            .text("traceparent", self.traceparent.unwrap_or_default())
    }

    /// What a letter is known by where copies are dropped: the same burial has the same, and the next one, after a redrive or a move, another one.
    /// The message's id counts among the rest because a delivery that the ledger does not know has no epoch, and begins anew with its attempts
    /// each time. Never the id of a message from the topic or the table, so that a letter which is moved back is not taken for a copy of what was
    /// parked.
    pub(crate) fn once(&self, of: impl Display, run: i32, epoch: i32) -> String {
        format!("{of}.{run}.{epoch}.parked.{}.{}", self.attempts, self.message_id)
    }
}

/// What a record says of the dead-letter queue that it was moved back from: a move task keeps a letter's attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Buried {
    pub(crate) reason: String,
    pub(crate) error: String,
    pub(crate) attempts: u16,
    pub(crate) failed_at: Timestamp,
    /// The id that the message had when it was parked, where only that names it: a move gives a new one.
    pub(crate) message_id: Option<String>,
}

impl Buried {
    /// From a record's attributes; `None` for one that was never buried.
    pub(crate) fn of(text: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let attempts = text("attempts")?.parse().ok()?;
        let (reason, error) = (text("reason")?, text("error").unwrap_or_default());
        let failed_at = text("failed_at")?.parse().ok()?;
        Some(Self { reason, error, attempts, failed_at, message_id: text("message_id") })
    }
}

/// At most `bytes` of a text, at a character's edge.
fn truncate(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_cut_at_a_character_s_edge() {
        assert_eq!(truncate("aé", 2), "a");
        assert_eq!(truncate("aé", 3), "aé");
    }

    #[test]
    fn a_letter_says_whose_it_is_why_it_lies_there_and_which_delivery_it_belongs_to() {
        let body = include_str!("../../event/fixtures/feedback.created.v1.json");
        let letter = Letter {
            agent: "sentiment",
            body,
            message_id: "m",
            reason: "no_text",
            error: "nothing to read",
            attempts: 1,
            run: 3,
            epoch: Some(2),
            traceparent: None,
        };
        let message = letter.message();
        let of = |name| message.attribute(name);
        assert_eq!(message.body, body);
        assert_eq!((of("agent"), of("reason"), of("attempts")), (Some("sentiment"), Some("no_text"), Some("1")));
        assert_eq!((of("run"), of("epoch"), of("event_type")), (Some("3"), Some("2"), Some("feedback.created")));
        assert_eq!(of("event_id").map(str::to_owned), Event::id_of(body).map(|id| id.to_string()));
        assert!(of("failed_at").is_some() && of("traceparent").is_none());
        let buried = Buried::of(|name| message.attribute(name).map(str::to_owned));
        assert_eq!(buried.map(|buried| (buried.reason, buried.attempts)), Some(("no_text".to_owned(), 1)));
        assert_eq!(Buried::of(|_| None), None);
    }
}
