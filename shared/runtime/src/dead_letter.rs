//! A dead letter as a message of the bus.

use jiff::Timestamp;
use switchyard_bus::Message;
use switchyard_operations::dead_letter::{Attribute, DeadLetter};

/// The message to send.
///
/// On FIFO each has a group of its own: a dead-letter queue needs no order, and while a reader inspects ten messages of a group, the others
/// of it would be out of sight.
#[must_use]
pub fn message(dead_letter: &DeadLetter<'_>) -> Message {
    let once = dead_letter.deduplication_id();
    let message = Message::new(dead_letter.body.to_owned()).in_group(&once, &once);
    dead_letter.attributes(Timestamp::now()).into_iter().fold(message, |message, (name, value)| match value {
        Attribute::Text(text) => message.text(name, text),
        Attribute::Number(number) => message.number(name, number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_carries_the_body_as_it_came_and_the_attributes() {
        let body = include_str!("../../event/fixtures/order.placed.v1.json");
        let dead_letter = DeadLetter {
            agent: "sentiment",
            body,
            message_id: "m",
            reason: "no_text",
            error: "nothing to read",
            attempts: 1,
            run: 3,
            epoch: None,
            traceparent: None,
        };
        let message = message(&dead_letter);
        assert_eq!(message.body, body);
        assert_eq!((message.attribute("reason"), message.attribute("attempts")), (Some("no_text"), Some("1")));
        assert_eq!((message.attribute("epoch"), message.attribute("traceparent")), (None, None));
        assert_eq!(message.keys().deduplication_id, Some(dead_letter.deduplication_id()));
    }
}
