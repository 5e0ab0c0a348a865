//! The outermost layer: bodies become events.

use crate::{
    batch::Parsed,
    bugs,
    outcome::{Outcome, Outcomes},
    seal,
};
use std::collections::HashMap;
use switchyard_event::Event;
use switchyard_store::Ask;

/// Reads every body. What is no event is parked; the same body twice in one batch is handled once. Another body of the same event is another matter,
/// since only the database knows which of them is not forged.
pub(crate) fn layer(outcomes: &mut Outcomes<'_>) -> Vec<Parsed> {
    let mut first: HashMap<(Ask, &str), usize> = HashMap::new();
    let mut parsed = Vec::new();
    // Of two copies the one that was parked before goes first: the other may be acknowledged with it, and not it with the other.
    let messages = outcomes.messages.iter().enumerate();
    let (parked, others): (Vec<_>, Vec<_>) = messages.partition(|(_, message)| message.was_parked().is_some());
    for (at, message) in parked.into_iter().chain(others) {
        match Event::parse(&message.body) {
            Err(error) => {
                let outcome = Outcome::Park { reason: error.reason().into(), detail: error.to_string() };
                outcomes.end(at, outcome, None);
            }
            Ok(event) => {
                bugs::received(event.id, &message.id);
                outcomes.identify(at, &event);
                let ask = Ask { event_id: event.id, run: message.run(), epoch: message.epoch() };
                let copy = (ask.clone(), message.body.as_str());
                match first.get(&copy) {
                    Some(&same) => outcomes.end(at, Outcome::SameAs(same), None),
                    None => {
                        first.insert(copy, at);
                        parsed.push(Parsed { at, event, ask, seal: seal::of(&message.body) });
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
mod tests {
    use super::*;
    use crate::message::Message;

    const GOOD: &str = include_str!("../../event/fixtures/order.placed.v1.json");

    fn message(body: &str) -> Message {
        Message::new("m", "r", body)
    }

    #[test]
    fn a_body_that_is_no_event_is_parked_alone_and_of_two_copies_one_is_handled() {
        let nul = GOOD.replace("Wi-Fi", "\\u0000");
        let messages = ["{", GOOD, nul.as_str(), GOOD].map(message);
        let mut outcomes = Outcomes::of(&messages);
        let parsed = layer(&mut outcomes);
        assert_eq!(parsed.iter().map(|record| record.at).collect::<Vec<_>>(), [1]);
        let parked = |at| match outcomes.outcome(at) {
            Some(Outcome::Park { reason, .. }) => reason.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!((parked(0), parked(2)), ("malformed".into(), "nul".into()));
        assert_eq!(outcomes.outcome(3), Some(&Outcome::SameAs(1)));
    }

    #[test]
    fn of_two_copies_the_one_that_was_parked_before_is_handled() {
        let mut messages = ["{", GOOD, GOOD].map(message);
        let parked = [("attempts", "1"), ("failed_at", "2026-01-05T09:30:00Z"), ("reason", "no_text")];
        messages[2].attributes = parked.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut outcomes = Outcomes::of(&messages);
        assert_eq!(layer(&mut outcomes).iter().map(|record| record.at).collect::<Vec<_>>(), [2]);
        assert_eq!(outcomes.outcome(1), Some(&Outcome::SameAs(2)));
    }
}
