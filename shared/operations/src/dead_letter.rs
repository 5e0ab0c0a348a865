//! The codec of a dead letter: what the attributes of a message in a dead-letter queue say of it. The body stays as it came.

use jiff::Timestamp;
use std::fmt::Display;
use switchyard_event::Event;
use uuid::Uuid;

/// The reason of a message that says none: the queue's own redrive policy moved it, since no process lived to say why.
pub const PROCESS_DIED: &str = "process_died";

/// The longest text of an error in an attribute, in bytes. `switchyard.failure` keeps the whole of it.
const LONGEST_ERROR: usize = 1_024;

/// What is put into a dead-letter queue.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// Whose queue it came from.
    pub agent: &'a str,
    /// The body as it came.
    pub body: &'a str,
    /// The id of the message that is parked: on FIFO, what distinguishes it from another message of the same event.
    pub message_id: &'a str,
    /// A short stable word: what failures are grouped by.
    pub reason: &'a str,
    /// What happened, for the operator; cut at 1,024 bytes.
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

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// A text; an empty one is not sent.
    Text(String),
    /// A number.
    Number(i64),
}

impl DeadLetter<'_> {
    /// Its attributes. Ten, as many as SQS takes: the run and the epoch are among them, so that a message which is moved back still belongs to
    /// its delivery.
    #[must_use]
    pub fn attributes(&self, failed_at: Timestamp) -> [(&'static str, Attribute); 10] {
        let text = |text: &str| Attribute::Text(text.to_owned());
        let event_type = Event::parse(self.body).map(|event| event.event_type.to_string()).unwrap_or_default();
        [
            ("agent", text(self.agent)),
            ("reason", text(self.reason)),
            ("error", text(truncate(self.error, LONGEST_ERROR))),
            ("attempts", Attribute::Number(self.attempts.into())),
            ("failed_at", Attribute::Text(failed_at.to_string())),
            ("event_id", Attribute::Text(Event::id_of(self.body).map(|id| id.to_string()).unwrap_or_default())),
            ("event_type", Attribute::Text(event_type)),
            ("run", Attribute::Number(self.run.into())),
            ("epoch", Attribute::Text(self.epoch.map(|epoch| epoch.to_string()).unwrap_or_default())),
            ("traceparent", text(self.traceparent.unwrap_or_default())),
        ]
    }

    /// Its deduplication id on FIFO.
    #[must_use]
    pub fn deduplication_id(&self) -> String {
        match Event::id_of(self.body) {
            Some(id) => self.deduplication_id_of(id, self.run, self.epoch.unwrap_or(0)),
            None => self.deduplication_id_of(self.body, self.run, self.epoch.unwrap_or(0)),
        }
    }

    /// The deduplication id of another delivery's message that is parked with this reason: the same parking has the same id, and the next one,
    /// after a redrive or a move, another. It contains the message's id because a delivery that the ledger does not know has no epoch, and
    /// begins anew with its attempts each time. It is never the id of a message from the topic or the table, so that a message which is moved
    /// back is not taken for a copy of what was parked.
    #[must_use]
    pub fn deduplication_id_of(&self, of: impl Display, run: i32, epoch: i32) -> String {
        format!("{of}.{run}.{epoch}.parked.{}.{}", self.attempts, self.message_id)
    }
}

/// What a message says of the dead-letter queue that it was moved back from: a move task keeps the attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WasParked {
    /// Why it was parked.
    pub reason: String,
    /// What had happened.
    pub error: String,
    /// How many attempts it had.
    pub attempts: u16,
    /// When it was parked.
    pub failed_at: Timestamp,
    /// The id that the message had when it was parked, where only that names it: a move gives a new one.
    pub message_id: Option<String>,
}

impl WasParked {
    /// From a message's attributes; `None` for one that was never parked.
    pub fn of(text: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let attempts = text("attempts")?.parse().ok()?;
        let (reason, error) = (text("reason")?, text("error").unwrap_or_default());
        let failed_at = text("failed_at")?.parse().ok()?;
        Some(Self { reason, error, attempts, failed_at, message_id: text("message_id") })
    }
}

/// What a message in a dead-letter queue says of itself, without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedMessage {
    /// The event and the run of the delivery; none where the body names no event.
    pub delivery: Option<(Uuid, i32)>,
    /// The epoch of the delivery, where the message names one.
    pub epoch: Option<i32>,
    /// Why it is there; none where the queue's own redrive policy moved it ([`PROCESS_DIED`]).
    pub reason: Option<String>,
    /// The event's type, where it is known.
    pub event_type: Option<String>,
    /// When it was parked, where it says so.
    pub parked_at: Option<Timestamp>,
    /// The id of the message that failed, where it says so: what its row among the failures is found by where it has no event.
    pub message_id: Option<String>,
}

impl ParkedMessage {
    /// Reads a message. The attributes are what the runtime wrote; the body helps where they are missing.
    pub fn read<'a>(body: &str, attribute: impl Fn(&str) -> Option<&'a str>) -> Self {
        let text = |name: &str| attribute(name).filter(|value| !value.is_empty());
        let id = text("event_id").and_then(|id| id.parse().ok()).or_else(|| Event::id_of(body));
        let number = |name: &str| text(name).and_then(|number| number.parse().ok());
        let of_body = || Event::parse(body).ok().map(|event| event.event_type.to_string());
        Self {
            delivery: id.map(|id| (id, number("run").unwrap_or(0))),
            epoch: number("epoch"),
            reason: text("reason").map(str::to_owned),
            event_type: text("event_type").map(str::to_owned).or_else(of_body),
            parked_at: text("failed_at").and_then(|at| at.parse().ok()),
            message_id: text("message_id").map(str::to_owned),
        }
    }

    /// Why it is there, in a word.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or(PROCESS_DIED)
    }
}

/// At most `bytes` of a text, at a character's edge.
fn truncate(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = include_str!("../../event/fixtures/order.placed.v1.json");

    fn dead_letter() -> DeadLetter<'static> {
        DeadLetter {
            agent: "sentiment",
            body: BODY,
            message_id: "m",
            reason: "no_text",
            error: "nothing to read",
            attempts: 1,
            run: 3,
            epoch: Some(2),
            traceparent: None,
        }
    }

    fn written(letter: DeadLetter) -> impl Fn(&str) -> Option<String> {
        let attributes = letter.attributes(Timestamp::UNIX_EPOCH);
        move |wanted| {
            let (_, value) = attributes.iter().find(|(name, _)| *name == wanted)?;
            match value {
                Attribute::Text(text) => Some(text.clone()).filter(|text| !text.is_empty()),
                Attribute::Number(number) => Some(number.to_string()),
            }
        }
    }

    fn read(body: &str, attributes: &[(&str, &str)]) -> ParkedMessage {
        ParkedMessage::read(body, |wanted| attributes.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value))
    }

    #[test]
    fn an_error_is_cut_at_a_character_s_edge() {
        assert_eq!(truncate("aé", 2), "a");
        assert_eq!(truncate("aé", 3), "aé");
    }

    #[test]
    fn a_dead_letter_names_its_agent_its_reason_and_its_delivery() {
        let of = written(dead_letter());
        assert_eq!((of("agent").as_deref(), of("reason").as_deref()), (Some("sentiment"), Some("no_text")));
        assert_eq!((of("attempts").as_deref(), of("run").as_deref()), (Some("1"), Some("3")));
        assert_eq!((of("epoch").as_deref(), of("event_type").as_deref()), (Some("2"), Some("order.placed")));
        assert_eq!(of("event_id"), Event::id_of(BODY).map(|id| id.to_string()));
        assert!(of("failed_at").is_some() && of("traceparent").is_none());
    }

    #[test]
    fn what_is_written_is_read() {
        let of = written(dead_letter());
        let attributes: Vec<(String, String)> =
            ["event_id", "run", "epoch", "reason", "event_type", "failed_at", "message_id"]
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), of(name)?)))
                .collect();
        let attributes: Vec<(&str, &str)> =
            attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let parked = read("{ no event", &attributes);
        assert_eq!(parked.delivery, Event::id_of(BODY).map(|id| (id, 3)));
        assert_eq!((parked.epoch, parked.reason(), &parked.message_id), (Some(2), "no_text", &None));
        assert_eq!(parked.event_type.as_deref(), Some("order.placed"));
        assert_eq!(parked.parked_at, Some(Timestamp::UNIX_EPOCH));
        let moved_back = WasParked::of(of).map(|parked| (parked.reason, parked.attempts));
        assert_eq!(moved_back, Some(("no_text".to_owned(), 1)));
        assert_eq!(WasParked::of(|_| None), None);
    }

    #[test]
    fn a_message_that_the_queue_itself_moved_is_known_by_its_body() {
        let parked = read(BODY, &[]);
        assert_eq!(parked.delivery, Event::id_of(BODY).map(|id| (id, 0)));
        assert_eq!((parked.reason(), parked.event_type.as_deref()), ("process_died", Some("order.placed")));
        assert_eq!((parked.reason, parked.epoch), (None, None));
    }

    #[test]
    fn a_body_that_is_no_event_has_no_delivery() {
        let parked = read("{", &[("message_id", "m"), ("reason", "malformed")]);
        assert_eq!((parked.delivery, parked.message_id.as_deref()), (None, Some("m")));
    }
}
