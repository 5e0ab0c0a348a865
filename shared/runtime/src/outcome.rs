//! The innermost layer's results carried out: acknowledge, hold back for the backoff, or bury; then the answer to Lambda.

use crate::{
    batch::{Ending, Endings},
    parse::Message,
};
use aws_lambda_events::event::sqs::SqsBatchResponse;
use std::{borrow::Cow, time::Duration};
use switchyard_agent::Schedule;
use switchyard_bus::{Hold, Message as BusMessage, Queues};
use switchyard_event::Event;
use switchyard_store::{Ask, Failed, ParkReport, Standing, Store};

/// The longest that a record waits which costs no attempt, at least half of it each time: a dependency that is down for hours must not use up
/// the queue's receives.
const LONGEST_RETURN: Duration = Duration::from_secs(15 * 60);

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
        Self { ask: Some(failed.ask), reason: "attempts_used_up".into(), detail: failed.error, attempts }
    }
}

impl<Q: Queues> Desk<'_, Q> {
    /// Carries out every ending and answers with exactly the records that must come again. Never an empty answer by accident: what is not
    /// settled is named.
    pub(crate) async fn carry_out(&self, endings: Endings<'_>) -> SqsBatchResponse {
        let messages = endings.messages;
        let endings = endings.into_parts();
        let mut again = vec![false; messages.len()];
        let (mut fails, mut burials, mut holds) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (ending, standing)) in endings.iter().enumerate() {
            self.log(&messages[at], ending, standing.as_ref());
            match step(ending, standing.as_ref(), messages[at].receives, self.schedule, fastrand::f64()) {
                None => {}
                Some(Step::Fail { failed, delay }) => fails.push((at, failed, delay)),
                Some(Step::Bury(burial)) => burials.push((at, burial)),
                Some(Step::Return { delay }) => {
                    again[at] = true;
                    holds.push(self.hold(&messages[at], delay));
                }
            }
        }
        for ((at, failed, delay), attempts_used_up) in self.count(fails).await {
            match attempts_used_up {
                Some(attempts) => burials.push((at, Burial::used_up(failed, attempts))),
                None => {
                    again[at] = true;
                    holds.push(self.hold(&messages[at], delay));
                }
            }
        }
        for at in self.bury(messages, burials).await {
            again[at] = true;
        }
        self.queues.hold(&holds).await;
        for (at, (ending, _)) in endings.iter().enumerate() {
            if let Ending::SameAs(twin) = ending {
                again[at] = again.get(*twin).copied().unwrap_or(true);
            }
        }
        let mut answer = SqsBatchResponse::default();
        for (at, _) in again.iter().enumerate().filter(|(_, again)| **again) {
            answer.add_failure(messages[at].id.clone());
        }
        answer
    }

    fn hold(&self, message: &Message, delay: Duration) -> Hold {
        Hold { receipt_handle: message.receipt_handle.clone(), delay }
    }

    /// Counts failed attempts in the ledger, all in one round trip; says which of them were the last, and after how many.
    async fn count(&self, fails: Vec<(usize, Failed, Duration)>) -> Vec<((usize, Failed, Duration), Option<u16>)> {
        let reports: Vec<Failed> = fails.iter().map(|(_, failed, _)| failed.clone()).collect();
        let reported = match self.store.fail(self.agent, &reports).await {
            Ok(reported) => reported.into_iter().map(|now| now.exhausted().then_some(now.attempts)).collect(),
            Err(error) => {
                let (agent, records) = (self.agent, reports.len());
                tracing::warn!(agent, %error, records, "attempts could not be counted: they cost nothing");
                vec![None; reports.len()]
            }
        };
        fails.into_iter().zip(reported).collect()
    }

    /// Parks: the dead-letter queue first, then the row, then the acknowledgement. A crash in between doubles a copy at worst. Returns the
    /// places of those that could not be parked and come again.
    async fn bury(&self, messages: &[Message], burials: Vec<(usize, Burial)>) -> Vec<usize> {
        let agent = self.agent;
        let mut again = Vec::new();
        let letters: Vec<BusMessage> =
            burials.iter().map(|(at, burial)| letter(agent, &messages[*at], burial)).collect();
        let (mut buried, mut reports) = (Vec::new(), Vec::new());
        for ((at, burial), answer) in burials.into_iter().zip(self.queues.bury(&letters).await) {
            match answer {
                Ok(()) => {
                    buried.push(at);
                    // A body without an event id has no row to report on: the copy in the dead-letter queue says all there is.
                    let ask = burial.ask.or_else(|| ask_of(&messages[at]));
                    let (reason, error) = (burial.reason.into_owned(), burial.detail);
                    reports.extend(ask.map(|ask| ParkReport { ask, reason, error }));
                }
                Err(error) => {
                    tracing::warn!(agent, %error, "could not be put into the dead-letter queue: it comes again");
                    again.push(at);
                }
            }
        }
        if let Err(error) = self.store.park(agent, &reports).await {
            tracing::warn!(agent, %error, records = reports.len(), "parked records could not be recorded: they come again");
            again.extend(buried);
        }
        again
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
            Ending::Returned { why } => {
                tracing::warn!(agent = self.agent, event.id = event, %why, "returned unstarted");
            }
            Ending::Park { reason, detail } => {
                tracing::error!(agent = self.agent, event.id = event, attempt, %reason, error = detail, message.id = message.id, "parked");
            }
            Ending::SameAs(_) => {}
        }
    }
}

/// A copy for the dead-letter queue: the body as it came, and why. Ten attributes, as many as SQS takes: the run and the epoch are among them, so
/// that a copy which is moved back still belongs to its delivery.
fn letter(agent: &str, message: &Message, burial: &Burial) -> BusMessage {
    let event = Event::parse(&message.body).ok();
    let id = Event::id_of(&message.body).map(|id| id.to_string());
    BusMessage::new(message.body.clone())
        .text("agent", agent)
        .text("reason", burial.reason.as_ref())
        .text("error", truncate(&burial.detail, 1_024))
        .number("attempts", i64::from(burial.attempts))
        .text("failed_at", now())
        .text("event_id", id.unwrap_or_default())
        .text("event_type", event.map(|event| event.event_type.to_string()).unwrap_or_default())
        .number("run", i64::from(message.run))
        .text("epoch", message.epoch.map(|epoch| epoch.to_string()).unwrap_or_default())
        .text("traceparent", message.traceparent.as_deref().unwrap_or_default())
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
        (Ending::Retry { .. } | Ending::Returned { .. }, _) => {
            let ceiling = Duration::from_secs(1 << receives.min(10)).min(LONGEST_RETURN);
            Some(Step::Return { delay: ceiling.mul_f64(0.5 + random / 2.0) })
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

/// At most `bytes` of a text, at a character's edge.
fn truncate(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The time for a person, in RFC 3339.
fn now() -> String {
    jiff::Timestamp::now().to_string()
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
        let returned = Ending::Returned { why: "down".into() };
        let wait = |receives| match step_of(&returned, None, receives) {
            Some(Step::Return { delay }) => delay.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!([wait(1), wait(2), wait(5), wait(10), wait(1_000)], [2, 4, 32, 900, 900]);
    }

    #[test]
    fn an_error_is_cut_at_a_character_s_edge() {
        assert_eq!(truncate("aé", 2), "a");
        assert_eq!(truncate("aé", 3), "aé");
    }
}
