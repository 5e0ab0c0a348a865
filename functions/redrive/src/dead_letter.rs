//! What a message in a dead-letter queue is, and what a redrive of a selection does with it. Pure.

use jiff::Timestamp;
use std::collections::BTreeSet;
use switchyard_bus::Received;
use switchyard_operations::{Selection, dead_letter::ParkedMessage};
use uuid::Uuid;

/// Reads a message. One that does not name the message that failed was moved by the queue's own redrive policy, which keeps the id.
pub(crate) fn read(received: &Received) -> ParkedMessage {
    let attribute = |name: &str| received.attributes.get(name).map(String::as_str);
    let mut parked = ParkedMessage::read(&received.body, attribute);
    parked.message_id.get_or_insert_with(|| received.message_id.clone());
    parked
}

/// What to do with a dead letter that was found while a selection goes back from the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its event is sent from the table: this copy is deleted.
    Remove,
    /// Unmatched, so the table has nothing to send: the message itself goes to the agent's queue.
    Forward,
    /// Not selected.
    Leave,
}

/// Decides about a dead letter while the deliveries `redriven` are sent from the table. `has_row`: the ledger has a delivery for it.
pub(crate) fn fate(
    dead_letter: &ParkedMessage,
    has_row: bool,
    selection: &Selection,
    redriven: &BTreeSet<(Uuid, i32)>,
) -> Fate {
    match dead_letter.delivery {
        Some(delivery) if redriven.contains(&delivery) => Fate::Remove,
        _ if !has_row && selects_unmatched(dead_letter, selection) => Fate::Forward,
        _ => Fate::Leave,
    }
}

/// Whether a selection includes an unmatched dead letter, by the same rules as the store's. A bound on the number excludes it, since it has no place in
/// the order.
pub(crate) fn selects_unmatched(dead_letter: &ParkedMessage, selection: &Selection) -> bool {
    fn among<T: PartialEq>(wanted: &[T], found: Option<&T>) -> bool {
        wanted.is_empty() || found.is_some_and(|found| wanted.contains(found))
    }
    let within = |bound: &Option<String>, holds: fn(Timestamp, Timestamp) -> bool| match bound {
        None => true,
        Some(bound) => matches!((dead_letter.parked_at, bound.parse()), (Some(at), Ok(bound)) if holds(at, bound)),
    };
    selection.at_most.is_none()
        && selection.projects.is_empty()
        && among(&selection.events, dead_letter.delivery.map(|(id, _)| id).as_ref())
        && among(&selection.types, dead_letter.event_type.as_ref())
        && among(&selection.reasons, Some(&dead_letter.reason().to_owned()))
        && within(&selection.since, |at, since| at >= since)
        && within(&selection.until, |at, until| at < until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_bus::Keys;
    use switchyard_event::Event;

    const BODY: &str = include_str!("../../../shared/event/fixtures/order.placed.v1.json");

    fn dead_letter(body: &str, attributes: &[(&str, &str)]) -> ParkedMessage {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        read(&Received {
            body: body.to_owned(),
            attributes,
            message_id: "of the dead-letter queue".to_owned(),
            receipt_handle: String::new(),
            sent_at: None,
            keys: Keys::default(),
            receives: 1,
        })
    }

    #[test]
    fn a_letter_is_read_from_its_attributes() {
        let id = Uuid::from_u128(7);
        let dead_letter = dead_letter(
            "{ no event",
            &[
                ("event_id", &id.to_string()),
                ("run", "3"),
                ("reason", "no_text"),
                ("event_type", "x.y"),
                ("failed_at", "2026-01-05T09:30:00Z"),
            ],
        );
        assert_eq!((dead_letter.delivery, dead_letter.reason()), (Some((id, 3)), "no_text"));
        assert_eq!((dead_letter.event_type.as_deref(), dead_letter.parked_at.is_some()), (Some("x.y"), true));
    }

    #[test]
    fn a_letter_is_named_as_the_message_that_failed() {
        assert_eq!(dead_letter("{", &[("message_id", "m")]).message_id.as_deref(), Some("m"));
        assert_eq!(dead_letter("{", &[]).message_id.as_deref(), Some("of the dead-letter queue"));
    }

    #[test]
    fn what_the_queue_itself_moved_is_known_by_its_body() {
        let dead_letter = dead_letter(BODY, &[]);
        assert_eq!(dead_letter.delivery, Event::id_of(BODY).map(|id| (id, 0)));
        assert_eq!((dead_letter.reason(), dead_letter.event_type.as_deref()), ("process_died", Some("order.placed")));
        assert!(dead_letter.delivery.is_some());
    }

    #[test]
    fn only_copies_of_what_goes_back_are_removed() {
        let (mine, other) = ((Uuid::from_u128(1), 0), (Uuid::from_u128(2), 0));
        let redriven = BTreeSet::from([mine]);
        let with = |delivery| ParkedMessage { delivery, ..dead_letter("{", &[("reason", "malformed")]) };
        let types = Selection { types: vec!["x.y".into()], ..Selection::default() };
        let fate = |delivery, has_row| fate(&with(delivery), has_row, &types, &redriven);
        assert_eq!(fate(Some(mine), true), Fate::Remove);
        assert_eq!(fate(Some(other), true), Fate::Leave);
        assert_eq!(fate(Some((mine.0, 4)), true), Fate::Leave, "another run's is another delivery");
        assert_eq!(fate(None, false), Fate::Leave, "a body without an event has no type");
    }

    #[test]
    fn a_letter_that_no_table_can_bring_goes_back_itself() {
        let none = BTreeSet::new();
        let at = dead_letter("{", &[("reason", "malformed"), ("failed_at", "2026-01-05T09:30:00Z")]);
        let select = |reason: &str, since: Option<&str>, until: Option<&str>| Selection {
            reasons: vec![reason.into()],
            since: since.map(str::to_owned),
            until: until.map(str::to_owned),
            ..Selection::default()
        };
        let fate_of = |dead_letter: &ParkedMessage, selection: &Selection| fate(dead_letter, false, selection, &none);
        assert_eq!(fate_of(&at, &select("malformed", None, None)), Fate::Forward);
        assert_eq!(fate_of(&at, &select("nul", None, None)), Fate::Leave);
        assert_eq!(
            fate_of(&at, &select("malformed", Some("2026-01-05T09:30:00Z"), None)),
            Fate::Forward,
            "since counts"
        );
        assert_eq!(fate_of(&at, &select("malformed", Some("2026-01-05T10:00:00Z"), None)), Fate::Leave);
        assert_eq!(fate_of(&at, &select("malformed", None, Some("2026-01-05T10:00:00Z"))), Fate::Forward);
        assert_eq!(
            fate_of(&at, &select("malformed", None, Some("2026-01-05T09:30:00Z"))),
            Fate::Leave,
            "until does not"
        );
        assert_eq!(fate_of(&at, &select("malformed", Some("soon"), None)), Fate::Leave);
        let timeless = dead_letter("{", &[("reason", "malformed")]);
        assert_eq!(fate_of(&timeless, &select("malformed", Some("2026-01-05T00:00:00Z"), None)), Fate::Leave);
        assert_eq!(fate_of(&at, &Selection { at_most: Some(1), ..select("malformed", None, None) }), Fate::Leave);
        assert_eq!(
            fate_of(&at, &Selection { projects: vec!["p".into()], ..select("malformed", None, None) }),
            Fate::Leave
        );
    }

    #[test]
    fn an_event_that_is_not_in_the_table_is_selected_by_its_id_and_type_too() {
        let id = Event::id_of(BODY).unwrap();
        let stranger = dead_letter(BODY, &[("reason", "not_in_table")]);
        let events = |id| Selection { events: vec![id], ..Selection::default() };
        let types = |name: &str| Selection { types: vec![name.into()], ..Selection::default() };
        assert!(selects_unmatched(&stranger, &events(id)) && !selects_unmatched(&stranger, &events(Uuid::nil())));
        assert!(
            selects_unmatched(&stranger, &types("order.placed")) && !selects_unmatched(&stranger, &types("order.paid"))
        );
        assert_eq!(
            fate(&stranger, true, &events(id), &BTreeSet::new()),
            Fate::Leave,
            "one with a row comes from the table"
        );
    }
}
