//! The innermost layer's results carried out: acknowledge, hold back for the backoff, or bury; then the answer to Lambda.

use crate::{
    batch::{Cause, Ended, Ending, Endings},
    dead_letter,
    parse::Message,
    wait,
};
use aws_lambda_events::event::sqs::SqsBatchResponse;
use jiff::Timestamp;
use std::{borrow::Cow, cell::Cell, time::Duration};
use switchyard_agent::Schedule;
use switchyard_bus::{Message as BusMessage, Queues, Visibility};
use switchyard_event::{Event, Reason};
use switchyard_operations::dead_letter::{DeadLetter, WasParked};
use switchyard_store::{Ask, Failed, Nameless, ParkReport, Standing, Store, StoreError, Verdict};

/// How long a letter that was moved back stays out of its dead-letter queue, where it was buried for the same reason shortly before and more
/// than once, and how long at most: twice as long each time. A move task goes on while its queue holds anything, and would chase it for ever.
const CHASED: Duration = Duration::from_secs(30);
const CHASED_AT_MOST: Duration = Duration::from_secs(15 * 60);

/// How many returns a process remembers that the ledger could not be told of.
const REMEMBERED: usize = 1_000;

/// Who reports, and where to.
pub(crate) struct Desk<'a, Q> {
    pub(crate) agent: &'static str,
    pub(crate) schedule: Schedule,
    pub(crate) store: &'a Store,
    pub(crate) queues: &'a Q,
    /// What was returned and the ledger has not been told of.
    pub(crate) untold: &'a Cell<Vec<Ask>>,
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
    of: Of,
    reason: Cow<'static, str>,
    detail: String,
    attempts: u16,
}

/// What the ledger is to be told of.
#[derive(Debug)]
enum Of {
    /// This delivery.
    Delivery(Ask),
    /// A body that is no event: there is no delivery.
    Nobody,
    /// A delivery that is parked already: nothing.
    Parked,
}

impl Burial {
    /// The last attempt has failed.
    fn used_up(failed: Failed, attempts: u16) -> Self {
        let reason = Reason::AttemptsUsedUp.as_str().into();
        Self { of: Of::Delivery(failed.ask), reason, detail: failed.error, attempts }
    }

    /// What the ledger is told of a delivery.
    fn report(&self, ask: Ask) -> ParkReport {
        ParkReport { ask, reason: self.reason.to_string(), error: self.detail.clone() }
    }

    /// What the ledger is told of a body that is no event: a failure without a delivery. It may bear the id of an event all the same, whose
    /// delivery is another matter: a spoilt copy says nothing about it.
    fn nameless(self, message: &Message) -> Nameless {
        let (message_id, run) = (first_id(message).to_owned(), message.run);
        let error = match Event::id_of(&message.body) {
            Some(id) => format!("{}; it bears the id {id}", self.detail),
            None => self.detail,
        };
        Nameless { message_id, run, reason: self.reason.into_owned(), error }
    }
}

/// Which records of a batch must come again, by place: all but those that are known to be settled.
#[derive(Debug)]
pub(crate) struct Again(Vec<Fate>);

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is known to be settled.
    Settled,
    /// It comes again: after so long, or when its visibility timeout ends.
    Again(Option<Duration>),
}

impl Again {
    pub(crate) fn all_of(messages: &[Message]) -> Self {
        Self(vec![Fate::Again(None); messages.len()])
    }

    pub(crate) fn settle(&mut self, at: usize) {
        self.0[at] = Fate::Settled;
    }

    /// It comes again after so long.
    pub(crate) fn hold(&mut self, at: usize, delay: Duration) {
        self.0[at] = Fate::Again(Some(delay));
    }

    /// For how long a record that must come again is held back, where that was said.
    pub(crate) fn held(&self, at: usize) -> Option<Duration> {
        match self.0.get(at)? {
            Fate::Again(delay) => *delay,
            Fate::Settled => None,
        }
    }

    /// Whether the record at this place must come again. A copy has the end of the one that it is a copy of.
    pub(crate) fn must_come(&self, at: usize, endings: &Endings<'_>) -> bool {
        let at = match endings.ending(at) {
            Some(Ending::SameAs(twin)) => *twin,
            _ => at,
        };
        self.0.get(at) != Some(&Fate::Settled)
    }

    /// The answer to Lambda: exactly the records that must come again. Never an empty one by accident: what is not settled is named.
    pub(crate) fn answer(&self, endings: &Endings<'_>) -> SqsBatchResponse {
        let mut answer = SqsBatchResponse::default();
        if switchyard_faults::bug("ignored_batch_failures") {
            return answer;
        }
        for (_, message) in endings.messages.iter().enumerate().filter(|(at, _)| self.must_come(*at, endings)) {
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
        let (mut fails, mut burials, mut back) = (Vec::new(), Vec::new(), Vec::new());
        let mut returned = Vec::new();
        for Ended { at, ending, standing } in &ended {
            let (at, message) = (*at, &messages[*at]);
            self.log(message, ending, standing.as_ref());
            match step(ending, standing.as_ref(), message, self.schedule, fastrand::f64(), Timestamp::now()) {
                None => again.settle(at),
                Some(Step::Fail { failed, delay }) => fails.push((at, failed, delay)),
                Some(Step::Bury(burial)) => burials.push((at, burial)),
                Some(Step::Return { delay }) => {
                    back.push((at, delay));
                    returned.extend(given_back(message, standing.as_ref()));
                }
            }
        }
        for ((at, failed, delay), attempts_used_up) in self.count(fails).await {
            match attempts_used_up {
                Some(attempts) => burials.push((at, Burial::used_up(failed, attempts))),
                None => back.push((at, delay)),
            }
        }
        for at in self.bury(messages, burials).await {
            again.settle(at);
        }
        back.iter().for_each(|(at, delay)| again.hold(*at, *delay));
        self.hold(endings, &back).await;
        // Who knows where a record stands has had an answer from the ledger: the next one is worth asking for.
        let answered = ended.iter().any(|ended| ended.standing.is_some());
        let longest = back.iter().map(|(_, delay)| *delay).max().unwrap_or_default();
        self.tell_of(returned, longest, answered).await;
    }

    /// Holds records back, each with its copies.
    async fn hold(&self, endings: &Endings<'_>, back: &[(usize, Duration)]) {
        let mut holds = Vec::with_capacity(back.len());
        for (at, delay) in back {
            for at in std::iter::once(*at).chain(endings.copies(*at)) {
                let Message { receipt_handle, queue, .. } = &endings.messages[at];
                let (receipt_handle, queue_arn) = (receipt_handle.clone(), queue.clone());
                holds.push(Visibility { receipt_handle, queue_arn, delay: *delay });
            }
        }
        if !holds.is_empty() {
            self.queues.set_visibility(&holds).await;
        }
    }

    /// Tells the ledger what was given back without an attempt, all in one round trip: nobody else has lost it, and no death explains why it
    /// is received again. What it cannot be told of now it is told with a later batch.
    async fn tell_of(&self, returned: Vec<Ask>, delay: Duration, answered: bool) {
        let mut asks = self.untold.take();
        asks.extend(returned);
        if answered && !asks.is_empty() {
            match self.store.returned(self.agent, &asks, delay).await {
                Ok(_) => asks.clear(),
                Err(error) => tracing::warn!(agent = self.agent, %error, "returns could not be counted"),
            }
        }
        asks.truncate(REMEMBERED);
        self.untold.set(asks);
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
    /// places of those that are parked; the others come again.
    async fn bury(&self, messages: &[Message], burials: Vec<(usize, Burial)>) -> Vec<usize> {
        if burials.is_empty() {
            return Vec::new();
        }
        let agent = self.agent;
        let letters: Vec<BusMessage> =
            burials.iter().map(|(at, burial)| letter(agent, &messages[*at], burial)).collect();
        let (mut named, mut nameless, mut settled) = (Vec::new(), Vec::new(), Vec::new());
        for ((at, burial), answer) in burials.into_iter().zip(self.queues.dead_letter(&letters).await) {
            match answer {
                Ok(()) => match &burial.of {
                    Of::Delivery(ask) => named.push((at, burial.report(ask.clone()))),
                    Of::Nobody => nameless.push((at, burial.nameless(&messages[at]))),
                    Of::Parked => settled.push(at),
                },
                Err(error) => {
                    tracing::warn!(agent, %error, "could not be put into the dead-letter queue: it comes again");
                }
            }
        }
        switchyard_faults::point("runtime.after_bury");
        let (places, reports): (Vec<usize>, Vec<ParkReport>) = named.into_iter().unzip();
        if !reports.is_empty() {
            let parked = self.store.park(agent, &reports).await.map(|_| ());
            settled.extend(self.recorded(places, parked));
        }
        let (places, reports): (Vec<usize>, Vec<Nameless>) = nameless.into_iter().unzip();
        if !reports.is_empty() {
            let parked = self.store.park_nameless(agent, &reports).await;
            settled.extend(self.recorded(places, parked));
        }
        switchyard_faults::point("runtime.after_park");
        settled
    }

    /// Those of which the ledger knows that they are in the dead-letter queue.
    fn recorded(&self, places: Vec<usize>, parked: Result<(), StoreError>) -> Vec<usize> {
        match parked {
            Ok(()) => places,
            Err(error) => {
                let (agent, records) = (self.agent, places.len());
                tracing::warn!(agent, %error, records, "parked records could not be recorded: they come again");
                Vec::new()
            }
        }
    }

    fn log(&self, message: &Message, ending: &Ending, standing: Option<&Standing>) {
        let event = standing.map(|standing| standing.event_id.to_string()).unwrap_or_default();
        let attempt = standing.map_or(0, |standing| standing.attempts + 1);
        match ending {
            Ending::Finished(_) if message.buried.is_some() && is_parked(standing) => {
                tracing::warn!(
                    agent = self.agent,
                    event.id = event,
                    "moved back while it is parked: its letter goes back"
                );
            }
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
    let letter = DeadLetter {
        agent,
        body: &message.body,
        message_id: &message.id,
        reason: burial.reason.as_ref(),
        error: &burial.detail,
        attempts: burial.attempts,
        run: message.run,
        epoch: message.epoch,
        traceparent: message.traceparent.as_deref(),
    };
    let copy = match &burial.of {
        // By the ledger's epoch, not the message's: a copy from the topic is of whichever it is now.
        Of::Delivery(ask) => {
            let once = letter.deduplication_id_of(ask.event_id, ask.run, ask.epoch.unwrap_or(0));
            dead_letter::message(&letter).in_group(&once, &once)
        }
        Of::Nobody | Of::Parked => dead_letter::message(&letter),
    };
    if matches!(burial.of, Of::Nobody) && copy.attribute("event_type").is_none() {
        // What its row among the failures is found by: a redrive marks exactly what it has sent back. In the place of a type: ten attributes.
        return copy.text("message_id", first_id(message));
    }
    copy
}

/// The name of a body that is no event: the id of the message that was parked first, so that however often it is moved it stays one row.
fn first_id(message: &Message) -> &str {
    let before = message.buried.as_ref().and_then(|buried| buried.message_id.as_deref());
    before.unwrap_or(&message.id)
}

/// What an ending asks for. Pure: the draw for the jitter and the time come from the caller.
fn step(
    ending: &Ending,
    standing: Option<&Standing>,
    message: &Message,
    schedule: Schedule,
    random: f64,
    now: Timestamp,
) -> Option<Step> {
    let attempts = standing.map_or(0, |standing| standing.attempts);
    match (ending, standing) {
        // Moved back by a task that nobody told the ledger of, or that is still running: its letter must not be lost while it is parked.
        (Ending::Finished(_), Some(Standing { verdict: Verdict::Parked, .. })) => {
            let before = message.buried.as_ref()?;
            Some(chased(before, attempts, &before.reason, now).map_or_else(
                || {
                    let (reason, detail) = (before.reason.clone().into(), before.error.clone());
                    Step::Bury(Burial { of: Of::Parked, reason, detail, attempts: before.attempts.saturating_add(1) })
                },
                |delay| Step::Return { delay },
            ))
        }
        (Ending::Finished(_) | Ending::SameAs(_), _) => None,
        (Ending::Retry { detail, after, .. }, Some(standing)) => {
            let delay = after.unwrap_or_else(|| schedule.delay(attempts + 1, random));
            let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            let failed = Failed { ask: told(standing), reason: "failed".into(), error: detail.clone(), delay_ms };
            Some(Step::Fail { failed, delay })
        }
        (Ending::Park { reason, detail }, _) => {
            // Parked anew, it is buried at once; a move task that brings it a second time finds it parked.
            let before = message.buried.as_ref().filter(|_| !standing.is_some_and(is_ours));
            if let Some(delay) = before.and_then(|before| chased(before, 0, reason, now)) {
                return Some(Step::Return { delay });
            }
            let (reason, detail) = (reason.clone(), detail.clone());
            let attempts = attempts.max(before.map_or(0, |before| before.attempts)).saturating_add(1);
            let of = standing.map_or(Of::Nobody, |standing| Of::Delivery(told(standing)));
            Some(Step::Bury(Burial { of, reason, detail, attempts }))
        }
        (Ending::Returned { cause: Cause::Turn(delay), .. }, _) => Some(Step::Return { delay: *delay }),
        (Ending::Retry { .. } | Ending::Returned { .. }, _) => {
            Some(Step::Return { delay: wait::after_return(message.receives, random) })
        }
    }
}

fn is_parked(standing: Option<&Standing>) -> bool {
    standing.is_some_and(|standing| standing.verdict == Verdict::Parked)
}

/// Whether there is a delivery that this agent may have tried.
fn is_ours(standing: &Standing) -> bool {
    matches!(standing.verdict, Verdict::Take | Verdict::Shadow)
}

/// How much longer a letter is to stay out of the dead-letter queue, after so many attempts that were counted. The first time that it is moved
/// back in vain it is buried again at once: somebody may be waiting to see it.
fn chased(before: &WasParked, attempts: u16, reason: &str, now: Timestamp) -> Option<Duration> {
    let since = Duration::try_from(now.duration_since(before.failed_at)).unwrap_or_default();
    let again = before.attempts.checked_sub(attempts.saturating_add(2)).filter(|_| before.reason == reason)?;
    let stays_out = CHASED.saturating_mul(2_u32.saturating_pow(again.into())).min(CHASED_AT_MOST);
    Some(stays_out.saturating_sub(since)).filter(|left| !left.is_zero())
}

/// The delivery whose message is given back: as the ledger told of it or, where it did not answer, as the message says.
fn given_back(message: &Message, standing: Option<&Standing>) -> Option<Ask> {
    match standing {
        Some(standing) => is_ours(standing).then(|| told(standing)),
        None => Some(Ask { event_id: Event::id_of(&message.body)?, run: message.run, epoch: message.epoch }),
    }
}

/// The delivery that the ledger told of, epoch included: a report on an older one is void.
fn told(standing: &Standing) -> Ask {
    Ask { event_id: standing.event_id, run: standing.run, epoch: Some(standing.epoch) }
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
            returns: 0,
            revision: 0,
            says: true,
        }
    }

    fn step_of(ending: &Ending, standing: Option<&Standing>, receives: u32) -> Option<Step> {
        let message = Message { receives, ..Message::with_body("{}") };
        step(ending, standing, &message, Schedule::DEFAULT, 1.0, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_letter_without_a_delivery_that_a_move_task_chases_is_held_back_before_it_is_buried_again() {
        let park = Ending::Park { reason: "malformed".into(), detail: "x".into() };
        let unknown = Standing { verdict: Verdict::Unknown, ..standing(0, 4) };
        let step_at = |secs: i64, attempts, standing: Option<&Standing>| {
            let buried = buried("malformed", attempts);
            let message = Message { buried: Some(buried), ..Message::with_body("{") };
            let now = Timestamp::from_second(secs).unwrap();
            match step(&park, standing, &message, Schedule::DEFAULT, 1.0, now) {
                Some(Step::Return { delay }) => Err(delay.as_secs()),
                Some(Step::Bury(burial)) => Ok(burial.attempts),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(step_at(1, 1, None), Ok(2), "moved back once, and a person sees that it did not help");
        assert_eq!(step_at(1, 2, None), Err(29));
        assert_eq!(step_at(1, 2, Some(&unknown)), Err(29));
        assert_eq!(step_at(30, 2, None), Ok(3));
        assert_eq!(step_at(-1, 2, None), Err(30), "of another machine's clock");
        assert_eq!([step_at(30, 3, None), step_at(30, 5, None), step_at(0, 9, None)], [Err(30), Err(210), Err(900)]);
        assert_eq!(step_at(1, 2, Some(&standing(0, 4))), Ok(1), "parked anew, it is buried at once");
    }

    #[test]
    fn a_burial_is_a_copy_of_itself_and_not_of_that_of_another_message_of_its_event() {
        let body = include_str!("../../event/fixtures/feedback.created.v1.json");
        let buried_as = |id: &str, of| {
            let message = Message { id: id.into(), ..Message::with_body(body) };
            let burial = Burial { of, reason: "not_in_table".into(), detail: String::new(), attempts: 1 };
            letter("sentiment", &message, &burial).keys().deduplication_id.clone().unwrap()
        };
        let of = [|| Of::Delivery(Ask { event_id: uuid::Uuid::nil(), run: 0, epoch: Some(0) }), || Of::Nobody];
        for of in of {
            assert_eq!(buried_as("m", of()), buried_as("m", of()));
            assert_ne!(
                buried_as("m", of()),
                buried_as("n", of()),
                "it went back, and the ledger has no epoch to tell them apart"
            );
        }
    }

    #[test]
    fn a_letter_that_is_moved_back_while_its_delivery_is_parked_goes_back_as_it_came() {
        let (finished, parked) =
            (Ending::Finished("parked before"), Standing { verdict: Verdict::Parked, ..standing(4, 4) });
        let step_at = |secs, attempts| {
            let message = Message { buried: Some(buried("drawn", attempts)), ..Message::with_body("{}") };
            let now = Timestamp::from_second(secs).unwrap();
            step(&finished, Some(&parked), &message, Schedule::DEFAULT, 1.0, now)
        };
        let Some(Step::Bury(burial)) = step_at(0, 4) else { panic!("the first time it is buried at once") };
        assert!(matches!(burial.of, Of::Parked), "the ledger knows it");
        assert_eq!((burial.reason.as_ref(), burial.detail.as_str(), burial.attempts), ("drawn", "why", 5));
        assert!(matches!(step_at(0, 6), Some(Step::Return { delay }) if delay == CHASED), "then a task chases it");
        assert!(step_of(&finished, Some(&parked), 1).is_none(), "a copy that was never a letter has one already");
    }

    fn buried(reason: &str, attempts: u16) -> WasParked {
        let failed_at = Timestamp::UNIX_EPOCH;
        WasParked { reason: reason.into(), error: "why".into(), attempts, failed_at, message_id: None }
    }

    #[test]
    fn one_that_comes_back_for_another_reason_is_buried_at_once() {
        assert_eq!(chased(&buried("nul", 9), 0, "malformed", Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn a_retry_waits_by_its_attempt_and_reports_on_the_epoch_that_it_was_told() {
        let retry = Ending::retry("x");
        let Some(Step::Fail { delay, failed }) = step_of(&retry, Some(&standing(1, 4)), 99) else {
            panic!("a second attempt of four is counted")
        };
        assert_eq!((delay, failed.ask.epoch, failed.delay_ms), (Duration::from_secs(2), Some(2), 2_000));
    }

    #[test]
    fn a_wait_that_the_agent_names_wins_over_the_schedule() {
        let after = Some(Duration::from_secs(17));
        let retry = Ending::Retry { detail: "x".into(), after, unanswered: false };
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
