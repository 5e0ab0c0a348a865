//! The outermost layer: bodies become events.

use crate::{
    batch::{Ending, Endings, Parsed},
    mistakes,
};
use aws_lambda_events::event::sqs::SqsMessage;
use std::collections::HashMap;
use switchyard_bus::Kind;
use switchyard_event::Event;
use switchyard_operations::dead_letter::WasParked;
use switchyard_store::Ask;

/// A message as the queue gave it, with what the runtime needs of it.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) receipt_handle: String,
    pub(crate) body: String,
    /// How often it was received, this time included. It goes on counting after a redrive.
    pub(crate) receives: u32,
    /// 0 for live events, a replay's number otherwise.
    pub(crate) run: i32,
    /// The delivery's epoch that a re-send was made for.
    pub(crate) epoch: Option<i32>,
    /// The ARN of the queue that it was received from.
    pub(crate) queue: Option<String>,
    /// On a queue of FIFO: what it is ordered with. A standard queue has message groups, too, and they order nothing.
    pub(crate) group: Option<String>,
    /// W3C Trace Context.
    pub(crate) traceparent: Option<String>,
    /// That it lay in the dead-letter queue before: it was moved back.
    pub(crate) buried: Option<WasParked>,
}

impl From<SqsMessage> for Message {
    fn from(message: SqsMessage) -> Self {
        let text = |name: &str| message.message_attributes.get(name).and_then(|value| value.string_value.clone());
        let number = |name: &str| -> Option<i32> { text(name)?.parse().ok() };
        let is_ordered = message.event_source_arn.as_deref().is_some_and(|queue| Kind::of(queue).is_fifo());
        Self {
            queue: message.event_source_arn,
            run: number("run").unwrap_or(0),
            epoch: number("epoch"),
            traceparent: text("traceparent"),
            group: message.attributes.get("MessageGroupId").filter(|_| is_ordered).cloned(),
            buried: WasParked::of(text),
            receives: message.attributes.get("ApproximateReceiveCount").and_then(|n| n.parse().ok()).unwrap_or(1),
            id: message.message_id.unwrap_or_default(),
            receipt_handle: message.receipt_handle.unwrap_or_default(),
            body: message.body.unwrap_or_default(),
        }
    }
}

/// Reads every body. What is no event is parked; the same event twice in one batch is handled once.
pub(crate) fn layer(endings: &mut Endings<'_>) -> Vec<Parsed> {
    let mut first: HashMap<Ask, usize> = HashMap::new();
    let mut parsed = Vec::new();
    // Of twins the one that was a letter goes first: the other may be acknowledged with it, and not it with the other.
    let (letters, others): (Vec<_>, Vec<_>) =
        endings.messages.iter().enumerate().partition(|(_, message)| message.buried.is_some());
    for (at, message) in letters.into_iter().chain(others) {
        match Event::parse(&message.body) {
            Err(error) => {
                let ending = Ending::Park { reason: error.reason().into(), detail: error.to_string() };
                endings.end(at, ending, None);
            }
            Ok(event) => {
                mistakes::received(event.id, &message.id);
                let ask = Ask { event_id: event.id, run: message.run, epoch: message.epoch };
                match first.get(&ask) {
                    Some(&twin) => endings.end(at, Ending::SameAs(twin), None),
                    None => {
                        first.insert(ask.clone(), at);
                        parsed.push(Parsed { at, event, ask });
                    }
                }
            }
        }
    }
    parsed.sort_by_key(|record: &Parsed| record.at);
    switchyard_faults::point("runtime.after_parse");
    parsed
}

#[cfg(test)]
impl Message {
    /// A message as it first arrives.
    pub(crate) fn with_body(body: &str) -> Self {
        Self {
            id: "m".into(),
            receipt_handle: "r".into(),
            body: body.into(),
            receives: 1,
            run: 0,
            epoch: None,
            queue: None,
            group: None,
            traceparent: None,
            buried: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_no_event_is_parked_alone_and_a_twin_is_handled_once() {
        let good = include_str!("../../event/fixtures/feedback.created.v1.json");
        let nul = good.replace("Wi-Fi", "\\u0000");
        let messages = ["{", good, nul.as_str(), good].map(Message::with_body);
        let mut endings = Endings::of(&messages);
        let parsed = layer(&mut endings);
        assert_eq!(parsed.iter().map(|record| record.at).collect::<Vec<_>>(), [1]);
        let parked = |at| match endings.ending(at) {
            Some(Ending::Park { reason, .. }) => reason.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!((parked(0), parked(2)), ("malformed".into(), "nul".into()));
        assert_eq!(endings.ending(3), Some(&Ending::SameAs(1)));
    }

    #[test]
    fn of_twins_the_one_that_was_a_letter_is_handled() {
        let good = include_str!("../../event/fixtures/feedback.created.v1.json");
        let mut messages = ["{", good, good].map(Message::with_body);
        messages[2].buried = WasParked::of(|name| match name {
            "attempts" => Some("1".into()),
            "failed_at" => Some("2026-01-05T09:30:00Z".into()),
            _ => Some(name.into()),
        });
        let mut endings = Endings::of(&messages);
        assert_eq!(layer(&mut endings).iter().map(|record| record.at).collect::<Vec<_>>(), [2]);
        assert_eq!(endings.ending(1), Some(&Ending::SameAs(2)));
    }

    #[test]
    fn attributes_say_which_run_a_message_belongs_to() {
        let json = serde_json::json!({ "messageId": "m", "body": "b",
            "attributes": { "ApproximateReceiveCount": "7" },
            "messageAttributes": { "run": { "stringValue": "12", "dataType": "Number" }, "epoch": { "stringValue": "x", "dataType": "String" } } });
        let message = Message::from(serde_json::from_value::<SqsMessage>(json).unwrap());
        assert_eq!((message.run, message.epoch, message.receives), (12, None, 7));
    }

    #[test]
    fn a_message_group_orders_on_a_queue_of_fifo_and_nowhere_else() {
        let group_on = |queue: &str| {
            let json = serde_json::json!({ "messageId": "m", "body": "b", "eventSourceARN": format!("arn:aws:sqs:eu-west-1:000000000000:{queue}"),
                "attributes": { "MessageGroupId": "g" }, "messageAttributes": {} });
            Message::from(serde_json::from_value::<SqsMessage>(json).unwrap()).group
        };
        assert_eq!((group_on("a-Queue.fifo"), group_on("a-Queue")), (Some("g".to_owned()), None));
    }
}
