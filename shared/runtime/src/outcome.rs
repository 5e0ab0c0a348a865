//! The innermost layer's results carried out: acknowledge, hold back for the backoff, or bury; then the answer to Lambda.

use crate::{
    batch::{Cause, Ended, Ending, Endings},
    letter::Letter,
    parse::Message,
    wait,
};
use aws_lambda_events::event::sqs::SqsBatchResponse;
use std::{borrow::Cow, time::Duration};
use switchyard_agent::Schedule;
use switchyard_bus::{Hold, Message as BusMessage, Queues};
use switchyard_event::{Event, Reason};
use switchyard_store::{Ask, Failed, Nameless, ParkReport, Standing, Store, StoreError};

/// Who reports, and where to.
pub(crate) struct Desk<'a, Q> {
    pub(crate) agent: &'static str,
    pub(crate) schedule: Schedule,
    pub(crate) store: &'a Store,
    pub(crate) queues: &'a Q,
}

/// What to do with one record that is not finished.
#[derive(Debug)]
enum Step {
    Fail { failed: Failed, delay: Duration },
    Bury(Burial),
    Return { delay: Duration },
}

/// What goes to the dead-letter queue, and why.
#[derive(Debug)]
struct Burial {
    ask: Option<Ask>,
    reason: Cow<'static, str>,
    detail: String,
    attempts: u16,
}

impl Burial {
    /// The last attempt has failed.
    fn used_up(failed: Failed, attempts: u16) -> Self {
        let reason = Reason::AttemptsUsedUp.as_str().into();
        Self { ask: Some(failed.ask), reason, detail: failed.error, attempts }
    }

    /// What the ledger is told of a delivery.
    fn report(self, ask: Ask) -> ParkReport {
        ParkReport { ask, reason: self.reason.into_owned(), error: self.detail }
    }

    /// What the ledger is told of a body without an event's id: it has no delivery, and a failure all the same.
    fn nameless(self, message: &Message) -> Nameless {
        let (message_id, run) = (message.id.clone(), message.run);
        Nameless { message_id, run, reason: self.reason.into_owned(), error: self.detail }
    }
}

/// Which records of a batch must come again, by place.
#[derive(Debug)]
pub(crate) struct Again(Vec<bool>);

impl Again {
    pub(crate) fn none_of(messages: &[Message]) -> Self {
        Self(vec![false; messages.len()])
    }

    /// The answer to Lambda: exactly the records that must come again. Never an empty one by accident: what is not settled is named.
    pub(crate) fn answer(mut self, endings: &Endings<'_>) -> SqsBatchResponse {
        for at in 0..self.0.len() {
            if let Some(Ending::SameAs(twin)) = endings.ending(at) {
                self.0[at] = self.0.get(*twin).copied().unwrap_or(true);
            }
        }
        let mut answer = SqsBatchResponse::default();
        if switchyard_faults::bug("ignored_batch_failures") {
            return answer;
        }
        for (message, _) in endings.messages.iter().zip(&self.0).filter(|(_, again)| **again) {
            answer.add_failure(message.id.clone());
        }
        answer
    }
}

impl<Q: Queues> Desk<'_, Q> {
    /// Carries out what has ended since the last time, and notes what must come again.
    pub(crate) async fn carry_out(&self, endings: &mut Endings<'_>, again: &mut Again) {
        let ended = endings.take();
        let messages = endings.messages;
        let (mut fails, mut burials, mut holds) = (Vec::new(), Vec::new(), Vec::new());
        for Ended { at, ending, standing } in &ended {
            let (at, message) = (*at, &messages[*at]);
            self.log(message, ending, standing.as_ref());
            match step(ending, standing.as_ref(), message.receives, self.schedule, fastrand::f64()) {
                None => {}
                Some(Step::Fail { failed, delay }) => fails.push((at, failed, delay)),
                Some(Step::Bury(burial)) => burials.push((at, burial)),
                Some(Step::Return { delay }) => {
                    again.0[at] = true;
                    holds.push(self.hold(message, delay));
                }
            }
        }
        for ((at, failed, delay), attempts_used_up) in self.count(fails).await {
            match attempts_used_up {
                Some(attempts) => burials.push((at, Burial::used_up(failed, attempts))),
                None => {
                    again.0[at] = true;
                    holds.push(self.hold(&messages[at], delay));
                }
            }
        }
        for at in self.bury(messages, burials).await {
            again.0[at] = true;
        }
        if !holds.is_empty() {
            self.queues.hold(&holds).await;
        }
    }

    fn hold(&self, message: &Message, delay: Duration) -> Hold {
        Hold { receipt_handle: message.receipt_handle.clone(), delay }
    }

    /// Counts failed attempts in the ledger, all in one round trip; says which of them were the last, and after how many.
    async fn count(&self, fails: Vec<(usize, Failed, Duration)>) -> Vec<((usize, Failed, Duration), Option<u16>)> {
        if fails.is_empty() {
            return Vec::new();
        }
        let reports: Vec<Failed> = fails.iter().map(|(_, failed, _)| failed.clone()).collect();
        let reported = match self.store.fail(self.agent, &reports).await {
            Ok(reported) => reported.into_iter().map(|now| now.exhausted().then_some(now.attempts)).collect(),
            Err(error) => {
                let (agent, records) = (self.agent, reports.len());
                tracing::warn!(agent, %error, records, "attempts could not be counted: they cost nothing");
                vec![None; reports.len()]
            }
        };
        switchyard_faults::point("runtime.after_fail");
        fails.into_iter().zip(reported).collect()
    }

    /// Parks: the dead-letter queue first, then the row, then the acknowledgement. A crash in between doubles a copy at worst. Returns the
    /// places of those that could not be parked and come again.
    async fn bury(&self, messages: &[Message], burials: Vec<(usize, Burial)>) -> Vec<usize> {
        if burials.is_empty() {
            return Vec::new();
        }
        let agent = self.agent;
        let mut again = Vec::new();
        let letters: Vec<BusMessage> =
            burials.iter().map(|(at, burial)| letter(agent, &messages[*at], burial)).collect();
        let (mut named, mut nameless) = (Vec::new(), Vec::new());
        for ((at, burial), answer) in burials.into_iter().zip(self.queues.bury(&letters).await) {
            match answer {
                Ok(()) => match burial.ask.clone().or_else(|| ask_of(&messages[at])) {
                    Some(ask) => named.push((at, burial.report(ask))),
                    None => nameless.push((at, burial.nameless(&messages[at]))),
                },
                Err(error) => {
                    tracing::warn!(agent, %error, "could not be put into the dead-letter queue: it comes again");
                    again.push(at);
                }
            }
        }
        switchyard_faults::point("runtime.after_bury");
        let (places, reports): (Vec<usize>, Vec<ParkReport>) = named.into_iter().unzip();
        if !reports.is_empty() {
            let parked = self.store.park(agent, &reports).await.map(|_| ());
            again.extend(self.unrecorded(places, parked));
        }
        let (places, reports): (Vec<usize>, Vec<Nameless>) = nameless.into_iter().unzip();
        if !reports.is_empty() {
            let parked = self.store.park_nameless(agent, &reports).await;
            again.extend(self.unrecorded(places, parked));
        }
        switchyard_faults::point("runtime.after_park");
        again
    }

    /// Those of which the ledger does not know that they are in the dead-letter queue.
    fn unrecorded(&self, places: Vec<usize>, parked: Result<(), StoreError>) -> Vec<usize> {
        match parked {
            Ok(()) => Vec::new(),
            Err(error) => {
                let (agent, records) = (self.agent, places.len());
                tracing::warn!(agent, %error, records, "parked records could not be recorded: they come again");
                places
            }
        }
    }

    fn log(&self, message: &Message, ending: &Ending, standing: Option<&Standing>) {
        let event = standing.map(|standing| standing.event_id.to_string()).unwrap_or_default();
        let attempt = standing.map_or(0, |standing| standing.attempts + 1);
        match ending {
            Ending::Finished(what) => {
                tracing::info!(agent = self.agent, event.id = event, attempt, "{what}");
            }
            Ending::Retry { detail, .. } => {
                tracing::warn!(agent = self.agent, event.id = event, attempt, error = detail, "failed");
            }
            Ending::Returned { why, .. } => {
                tracing::warn!(agent = self.agent, event.id = event, %why, "returned without an attempt");
            }
            Ending::Park { reason, detail } => {
                tracing::error!(agent = self.agent, event.id = event, attempt, %reason, error = detail, message.id = message.id, "parked");
            }
            Ending::SameAs(_) => {}
        }
    }
}

/// A copy for the dead-letter queue.
fn letter(agent: &str, message: &Message, burial: &Burial) -> BusMessage {
    let letter = Letter {
        agent,
        body: &message.body,
        reason: burial.reason.as_ref(),
        error: &burial.detail,
        attempts: burial.attempts,
        run: message.run,
        epoch: message.epoch,
        traceparent: message.traceparent.as_deref(),
    };
    letter.message()
}

/// What an ending asks for. Pure: the draw for the jitter comes from the caller.
fn step(ending: &Ending, standing: Option<&Standing>, receives: u32, schedule: Schedule, random: f64) -> Option<Step> {
    let attempts = standing.map_or(0, |standing| standing.attempts);
    match (ending, standing) {
        (Ending::Finished(_) | Ending::SameAs(_), _) => None,
        (Ending::Retry { detail, after }, Some(standing)) => {
            let delay = after.unwrap_or_else(|| schedule.delay(attempts + 1, random));
            let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            let failed = Failed { ask: told(standing), reason: "failed".into(), error: detail.clone(), delay_ms };
            Some(Step::Fail { failed, delay })
        }
        (Ending::Park { reason, detail }, _) => {
            let (reason, detail) = (reason.clone(), detail.clone());
            Some(Step::Bury(Burial { ask: standing.map(told), reason, detail, attempts: attempts + 1 }))
        }
        (Ending::Returned { cause: Cause::Turn(delay), .. }, _) => Some(Step::Return { delay: *delay }),
        (Ending::Retry { .. } | Ending::Returned { .. }, _) => {
            Some(Step::Return { delay: wait::after_return(receives, random) })
        }
    }
}

/// The delivery that the ledger told of, epoch included: a report on an older one is void.
fn told(standing: &Standing) -> Ask {
    Ask { event_id: standing.event_id, run: standing.run, epoch: Some(standing.epoch) }
}

/// Which delivery a message is about, where nobody has asked the ledger yet.
fn ask_of(message: &Message) -> Option<Ask> {
    let event_id = Event::id_of(&message.body)?;
    Some(Ask { event_id, run: message.run, epoch: message.epoch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_store::Verdict;

    fn standing(attempts: u16, max_attempts: u16) -> Standing {
        Standing {
            event_id: uuid::Uuid::nil(),
            run: 0,
            verdict: Verdict::Take,
            seq: Some(1),
            epoch: 2,
            attempts,
            max_attempts,
        }
    }

    fn step_of(ending: &Ending, standing: Option<&Standing>, receives: u32) -> Option<Step> {
        step(ending, standing, receives, Schedule::DEFAULT, 1.0)
    }

    #[test]
    fn a_retry_waits_by_its_attempt_and_reports_on_the_epoch_that_it_was_told() {
        let retry = Ending::Retry { detail: "x".into(), after: None };
        let Some(Step::Fail { delay, failed }) = step_of(&retry, Some(&standing(1, 4)), 99) else {
            panic!("a second attempt of four is counted")
        };
        assert_eq!((delay, failed.ask.epoch, failed.delay_ms), (Duration::from_secs(2), Some(2), 2_000));
    }

    #[test]
    fn a_wait_that_the_agent_names_wins_over_the_schedule() {
        let retry = Ending::Retry { detail: "x".into(), after: Some(Duration::from_secs(17)) };
        assert!(
            matches!(step_of(&retry, Some(&standing(0, 4)), 1), Some(Step::Fail { delay, .. }) if delay.as_secs() == 17)
        );
    }

    #[test]
    fn what_is_returned_waits_longer_each_time_but_never_more_than_a_quarter_of_an_hour() {
        let returned = Ending::returned("down");
        let wait = |receives| match step_of(&returned, None, receives) {
            Some(Step::Return { delay }) => delay.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!([wait(1), wait(2), wait(5), wait(10), wait(1_000)], [2, 4, 32, 900, 900]);
    }

    #[test]
    fn what_only_waits_for_its_turn_waits_as_long_as_that_takes() {
        let turn = Ending::Returned { why: "later".into(), cause: Cause::Turn(Duration::from_secs(7)) };
        assert!(matches!(step_of(&turn, None, 100), Some(Step::Return { delay }) if delay.as_secs() == 7));
    }
}
