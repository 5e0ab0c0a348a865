//! What is parked: a dead letter for the queue, and a report for the ledger.

use crate::{dead_letter, message::Message};
use jiff::Timestamp;
use std::{borrow::Cow, time::Duration};
use switchyard_bus::Message as BusMessage;
use switchyard_event::{Event, Reason};
use switchyard_operations::dead_letter::{DeadLetter, WasParked};
use switchyard_store::{Ask, Failed, ParkReport, Unidentified};

/// How long a message that was moved back stays out of its dead-letter queue, where it was parked for the same reason shortly before and more
/// than once, and how long at most: twice as long each time. A move task goes on while its queue holds anything, and would move it for ever.
pub(crate) const MOVED_IN_VAIN: Duration = Duration::from_secs(30);
const MOVED_IN_VAIN_AT_MOST: Duration = Duration::from_secs(15 * 60);

/// What goes to the dead-letter queue, and why.
#[derive(Debug)]
pub(crate) struct Parking {
    pub(crate) of: Of,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) detail: String,
    pub(crate) attempts: u16,
}

/// What the ledger records of a parking.
#[derive(Debug)]
pub(crate) enum Of {
    /// That this delivery is parked.
    Delivery(Ask),
    /// A failure without a delivery: the body is no event, or is forged.
    Unidentified,
    /// Nothing: the delivery is parked already.
    Parked,
}

impl Parking {
    /// The last attempt has failed.
    pub(crate) fn used_up(failed: Failed, attempts: u16) -> Self {
        let reason = Reason::AttemptsUsedUp.as_str().into();
        Self { of: Of::Delivery(failed.ask), reason, detail: failed.error, attempts }
    }

    /// The report on a delivery.
    pub(crate) fn report(&self, ask: Ask) -> ParkReport {
        ParkReport { ask, reason: self.reason.to_string(), error: self.detail.clone() }
    }

    /// The report on a body that is no event. It may bear the id of an event all the same, whose delivery is another matter: a spoilt copy says
    /// nothing about it.
    pub(crate) fn unidentified(self, message: &Message) -> Unidentified {
        let (message_id, run) = (first_id(message), message.run());
        let error = match Event::id_of(&message.body) {
            Some(id) => format!("{}; it bears the id {id}", self.detail),
            None => self.detail,
        };
        Unidentified { message_id, run, reason: self.reason.into_owned(), error }
    }

    /// A copy of the message for the dead-letter queue.
    pub(crate) fn dead_letter(&self, agent: &str, message: &Message) -> BusMessage {
        let dead_letter = DeadLetter {
            agent,
            body: &message.body,
            message_id: &message.id,
            reason: self.reason.as_ref(),
            error: &self.detail,
            attempts: self.attempts,
            run: message.run(),
            // What has no delivery has no epoch, and the id of its message takes that place: SQS allows ten attributes.
            epoch: message.epoch().filter(|_| !matches!(self.of, Of::Unidentified)),
            traceparent: message.traceparent(),
        };
        let copy = dead_letter::message(&dead_letter);
        let copy = match &self.of {
            // By the ledger's epoch, not the message's: a copy from the topic is of whichever it is now.
            Of::Delivery(ask) => {
                let id = dead_letter.deduplication_id_of(ask.event_id, ask.run, ask.epoch.unwrap_or(0));
                copy.in_group(&id, &id)
            }
            Of::Unidentified | Of::Parked => copy,
        };
        if matches!(self.of, Of::Unidentified) {
            // A redrive finds its row among the failures by this, and marks exactly what it has sent back.
            return copy.text("message_id", first_id(message));
        }
        copy
    }
}

/// The name of a body that is no event: the id of the message that was parked first, so that however often it is moved it stays one row.
fn first_id(message: &Message) -> String {
    message.was_parked().and_then(|parked| parked.message_id).unwrap_or_else(|| message.id.clone())
}

/// How much longer a message stays out of the dead-letter queue, after so many attempts that were counted. The first time that it is moved back
/// in vain it is parked again at once: an operator may wait for the result.
pub(crate) fn stays_out(before: &WasParked, attempts: u16, reason: &str, now: Timestamp) -> Option<Duration> {
    let since = Duration::try_from(now.duration_since(before.failed_at)).unwrap_or_default();
    let again = before.attempts.checked_sub(attempts.saturating_add(2)).filter(|_| before.reason == reason)?;
    let stays_out = MOVED_IN_VAIN.saturating_mul(2_u32.saturating_pow(again.into())).min(MOVED_IN_VAIN_AT_MOST);
    Some(stays_out.saturating_sub(since)).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parking_has_one_deduplication_id_and_that_of_another_message_of_its_event_another() {
        let body = include_str!("../../event/fixtures/order.placed.v1.json");
        let id_of = |message: &str, of| {
            let parking = Parking { of, reason: "not_in_table".into(), detail: String::new(), attempts: 1 };
            parking.dead_letter("sentiment", &Message::new(message, "r", body)).keys().deduplication_id.clone().unwrap()
        };
        let of = [|| Of::Delivery(Ask { event_id: uuid::Uuid::nil(), run: 0, epoch: Some(0) }), || Of::Unidentified];
        for of in of {
            assert_eq!(id_of("m", of()), id_of("m", of()));
            assert_ne!(
                id_of("m", of()),
                id_of("n", of()),
                "it went back, and the ledger has no epoch to tell them apart"
            );
        }
    }

    #[test]
    fn one_that_comes_back_for_another_reason_is_parked_at_once() {
        let before = WasParked {
            reason: "nul".into(),
            error: "why".into(),
            attempts: 9,
            failed_at: Timestamp::UNIX_EPOCH,
            message_id: None,
        };
        assert_eq!(stays_out(&before, 0, "malformed", Timestamp::UNIX_EPOCH), None);
        assert!(stays_out(&before, 0, "nul", Timestamp::UNIX_EPOCH).is_some());
    }
}
