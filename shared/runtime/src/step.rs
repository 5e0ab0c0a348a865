//! What each outcome asks for. Pure: the draw for the jitter and the time come from the caller.

use crate::{
    message::Message,
    outcome::{Cause, Outcome},
    park::{Of, Parking, stays_out},
    wait,
};
use jiff::Timestamp;
use std::time::Duration;
use switchyard_agent::Schedule;
use switchyard_event::Event;
use switchyard_store::{Ask, ClaimAnswer, Failed, Verdict};

/// What to do with one record that is not finished.
#[derive(Debug)]
pub(crate) enum Step {
    /// Count the attempt, and deliver it again after the backoff.
    Fail { failed: Failed, backoff: Duration },
    /// Park it.
    Park(Parking),
    /// Deliver it again, without an attempt.
    Return { after: Duration },
}

/// What an outcome asks for; `None` where the message is acknowledged.
pub(crate) fn step(
    outcome: &Outcome,
    standing: Option<&ClaimAnswer>,
    message: &Message,
    schedule: Schedule,
    random: f64,
    now: Timestamp,
) -> Option<Step> {
    let attempts = standing.map_or(0, |standing| standing.attempts);
    match (outcome, standing) {
        // A move task moved it back without a redrive, or is still running: its dead letter must not be lost while the delivery is parked.
        (Outcome::Finished(_), Some(ClaimAnswer { verdict: Verdict::Parked, .. })) => {
            let before = message.was_parked()?;
            Some(stays_out(&before, attempts, &before.reason, now).map_or_else(
                || {
                    let attempts = before.attempts.saturating_add(1);
                    let (reason, detail) = (before.reason.clone().into(), before.error.clone());
                    Step::Park(Parking { of: Of::Parked, reason, detail, attempts })
                },
                |after| Step::Return { after },
            ))
        }
        (Outcome::Finished(_) | Outcome::SameAs(_), _) => None,
        (Outcome::Retry { detail, after, .. }, Some(standing)) => {
            let backoff = after.unwrap_or_else(|| schedule.delay(attempts + 1, random));
            let delay_ms = u64::try_from(backoff.as_millis()).unwrap_or(u64::MAX);
            let failed = Failed { ask: ask_of(standing), reason: "failed".into(), error: detail.clone(), delay_ms };
            Some(Step::Fail { failed, backoff })
        }
        (Outcome::Park { reason, detail }, _) => {
            // Parked anew, it goes to the dead-letter queue at once; a move task that brings it a second time finds it parked.
            let before = message.was_parked().filter(|_| !standing.is_some_and(is_ours));
            if let Some(after) = before.as_ref().and_then(|before| stays_out(before, 0, reason, now)) {
                return Some(Step::Return { after });
            }
            let (reason, detail) = (reason.clone(), detail.clone());
            let attempts = attempts.max(before.map_or(0, |before| before.attempts)).saturating_add(1);
            let of = standing.map_or(Of::Unidentified, |standing| Of::Delivery(ask_of(standing)));
            Some(Step::Park(Parking { of, reason, detail, attempts }))
        }
        (Outcome::Returned { cause: Cause::Turn(after), .. }, _) => Some(Step::Return { after: *after }),
        (Outcome::Retry { .. } | Outcome::Returned { .. }, _) => {
            Some(Step::Return { after: wait::after_return(message.receives, random) })
        }
    }
}

/// Whether there is a delivery that this agent may have tried.
fn is_ours(standing: &ClaimAnswer) -> bool {
    matches!(standing.verdict, Verdict::Take | Verdict::Shadow)
}

/// The delivery whose message is returned without an attempt: as the ledger has it or, where it did not answer, as the message says. `None` where
/// there is no delivery of this agent.
pub(crate) fn returned(message: &Message, standing: Option<&ClaimAnswer>) -> Option<Ask> {
    match standing {
        Some(standing) => is_ours(standing).then(|| ask_of(standing)),
        None => Some(Ask { event_id: Event::id_of(&message.body)?, run: message.run(), epoch: message.epoch() }),
    }
}

/// The delivery as the ledger has it, epoch included: a report on an older epoch is void.
fn ask_of(standing: &ClaimAnswer) -> Ask {
    Ask { event_id: standing.event_id, run: standing.run, epoch: Some(standing.epoch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::park::MOVED_IN_VAIN;

    fn standing(attempts: u16, max_attempts: u16) -> ClaimAnswer {
        ClaimAnswer {
            event_id: uuid::Uuid::nil(),
            run: 0,
            verdict: Verdict::Take,
            seq: Some(1),
            epoch: 2,
            attempts,
            max_attempts,
            returns: 0,
            revision: 0,
            emits: true,
        }
    }

    fn step_of(outcome: &Outcome, standing: Option<&ClaimAnswer>, receives: u32) -> Option<Step> {
        let message = Message { receives, ..Message::new("m", "r", "{}") };
        step(outcome, standing, &message, Schedule::DEFAULT, 1.0, Timestamp::UNIX_EPOCH)
    }

    /// A message that was moved back from the dead-letter queue, where it was parked at the beginning of time.
    fn moved_back(reason: &str, attempts: u16) -> Message {
        let (attempts, failed_at) = (attempts.to_string(), Timestamp::UNIX_EPOCH.to_string());
        let attributes = [("reason", reason), ("error", "why"), ("attempts", &attempts), ("failed_at", &failed_at)];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Message { attributes, ..Message::new("m", "r", "{") }
    }

    #[test]
    fn a_message_without_a_delivery_that_a_move_task_keeps_moving_waits_before_it_is_parked_again() {
        let park = Outcome::Park { reason: "malformed".into(), detail: "x".into() };
        let unknown = ClaimAnswer { verdict: Verdict::Unknown, ..standing(0, 4) };
        let step_at = |secs: i64, attempts, standing: Option<&ClaimAnswer>| {
            let now = Timestamp::from_second(secs).unwrap();
            match step(&park, standing, &moved_back("malformed", attempts), Schedule::DEFAULT, 1.0, now) {
                Some(Step::Return { after }) => Err(after.as_secs()),
                Some(Step::Park(parking)) => Ok(parking.attempts),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(step_at(1, 1, None), Ok(2), "moved back once, and the operator sees that it did not help");
        assert_eq!(step_at(1, 2, None), Err(29));
        assert_eq!(step_at(1, 2, Some(&unknown)), Err(29));
        assert_eq!(step_at(30, 2, None), Ok(3));
        assert_eq!(step_at(-1, 2, None), Err(30), "of another machine's clock");
        assert_eq!([step_at(30, 3, None), step_at(30, 5, None), step_at(0, 9, None)], [Err(30), Err(210), Err(900)]);
        assert_eq!(step_at(1, 2, Some(&standing(0, 4))), Ok(1), "parked anew, it goes at once");
    }

    #[test]
    fn a_message_that_is_moved_back_while_its_delivery_is_parked_goes_back_as_it_came() {
        let finished = Outcome::Finished("parked before");
        let parked = ClaimAnswer { verdict: Verdict::Parked, ..standing(4, 4) };
        let step_at = |secs, attempts| {
            let now = Timestamp::from_second(secs).unwrap();
            step(&finished, Some(&parked), &moved_back("drawn", attempts), Schedule::DEFAULT, 1.0, now)
        };
        let Some(Step::Park(parking)) = step_at(0, 4) else { panic!("the first time it goes back at once") };
        assert!(matches!(parking.of, Of::Parked), "the ledger knows it");
        assert_eq!((parking.reason.as_ref(), parking.detail.as_str(), parking.attempts), ("drawn", "why", 5));
        let again = step_at(0, 6);
        assert!(matches!(again, Some(Step::Return { after }) if after == MOVED_IN_VAIN), "then a task keeps moving it");
        assert!(step_of(&finished, Some(&parked), 1).is_none(), "a copy that never was a dead letter has one already");
    }

    #[test]
    fn a_retry_waits_by_its_attempt_and_reports_on_the_ledger_s_epoch() {
        let retry = Outcome::retry("x");
        let Some(Step::Fail { backoff, failed }) = step_of(&retry, Some(&standing(1, 4)), 99) else {
            panic!("a second attempt of four is counted")
        };
        assert_eq!((backoff, failed.ask.epoch, failed.delay_ms), (Duration::from_secs(2), Some(2), 2_000));
    }

    #[test]
    fn a_backoff_that_the_agent_names_wins_over_the_schedule() {
        let after = Some(Duration::from_secs(17));
        let retry = Outcome::Retry { detail: "x".into(), after, unanswered: false };
        let step = step_of(&retry, Some(&standing(0, 4)), 1);
        assert!(matches!(step, Some(Step::Fail { backoff, .. }) if backoff.as_secs() == 17));
    }

    #[test]
    fn what_is_returned_waits_longer_each_time_but_never_more_than_a_quarter_of_an_hour() {
        let returned = Outcome::returned("down");
        let wait = |receives| match step_of(&returned, None, receives) {
            Some(Step::Return { after }) => after.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!([wait(1), wait(2), wait(5), wait(10), wait(1_000)], [2, 4, 32, 900, 900]);
    }

    #[test]
    fn what_only_waits_for_its_turn_waits_as_long_as_that_takes() {
        let turn = Outcome::Returned { why: "later".into(), cause: Cause::Turn(Duration::from_secs(7)) };
        assert!(matches!(step_of(&turn, None, 100), Some(Step::Return { after }) if after.as_secs() == 7));
    }
}
