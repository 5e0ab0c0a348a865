//! One batch of messages through the layers. They are listed in [`Worker::layers`], outermost first.

use crate::{
    Budget,
    answers::Answers,
    batch::Admitted,
    breaker::{self, Streak},
    budget,
    commit::{self, Terms},
    database::Tx,
    decide::{self, WaitPolicy},
    message::{Answer, Message},
    order,
    outcome::{Cause, Outcome, Outcomes},
    parse, payload, preview,
    report::Reporter,
    suspect, upcast,
};
use std::{cell::Cell, time::Duration};
use switchyard_agent::{Agent, Refusal};
use switchyard_bus::Queues;
use switchyard_event::Reason;
use switchyard_store::{Ask, Store};
use tokio::time::{Instant, timeout_at};

/// What is kept of the time for reporting: a few round trips to the ledger and two to the queues. Nothing of the agent's runs into it, so that the
/// end of the time does not fall between a commit and its answer. Where it is not enough, because one of them does not answer, what has not been
/// settled by then is delivered again.
const RESERVE: Duration = Duration::from_secs(10);

/// What is kept of the reserve for the answer itself.
const ANSWER: Duration = Duration::from_millis(500);

/// The least time in which a record is worth trying alone: one that is cut short by the end of the time would look like one that kills.
const ALONE: Duration = Duration::from_secs(2);

/// One batch through the layers, by a process that remembers nothing. For tests, and for a transport that makes a process for each batch.
///
/// Never fails: each message has an answer, in the order of the messages.
pub async fn handle<A: Agent<Tx = Tx>, Q: Queues>(
    agent: &A,
    store: &Store,
    queues: &Q,
    messages: Vec<Message>,
    ends: Instant,
) -> Vec<Answer> {
    Worker::new(agent, store, queues, Budget::DEFAULT).handle(messages, ends).await
}

/// A process of an agent: what it works with, and what it remembers from one batch to the next. It knows no transport: messages come in, and an
/// answer for each goes out.
pub struct Worker<'a, A, Q> {
    agent: &'a A,
    store: &'a Store,
    queues: &'a Q,
    budget: Budget,
    streak: Cell<Streak>,
    /// Returns that are not reported to the ledger yet.
    unreported: Cell<Vec<Ask>>,
    /// Suspects that this process has tried and survived, and the ledger still counts as its deaths.
    uncleared: Cell<Vec<Ask>>,
}

/// The times of one batch.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Nothing of the agent's runs longer.
    deadline: Instant,
    /// Half of what the agent has at most: [`WaitPolicy::fair`].
    fair: Duration,
    /// [`WaitPolicy::answered`].
    answered: bool,
}

impl<'a, A: Agent<Tx = Tx>, Q: Queues> Worker<'a, A, Q> {
    /// A process that has just started.
    #[must_use]
    pub fn new(agent: &'a A, store: &'a Store, queues: &'a Q, budget: Budget) -> Self {
        let (streak, unreported, uncleared) = Default::default();
        Self { agent, store, queues, budget, streak, unreported, uncleared }
    }

    /// One batch through the layers: one answer for each message, in their order. Never fails: what is not known to be settled is delivered again.
    /// `ends` is when the process may be stopped; ten seconds of it are kept for reporting.
    pub async fn handle(&self, messages: Vec<Message>, ends: Instant) -> Vec<Answer> {
        let now = Instant::now();
        let before_the_end = |time| ends.checked_sub(time).unwrap_or(now);
        let deadline = before_the_end(RESERVE);
        let times = Times { deadline, fair: deadline.saturating_duration_since(now) / 2, answered: false };
        let (mut outcomes, mut answers) = (Outcomes::of(&messages), Answers::of(&messages));

        // Boxed: the futures of an AWS SDK are so deep that the compiler gives up on laying out one around them.
        let layers = Box::pin(self.layers(times, &mut outcomes, &mut answers));
        if timeout_at(before_the_end(ANSWER), layers).await.is_err() {
            tracing::warn!(
                agent = A::NAME,
                "the time was not enough for reporting: what is not known to be settled is delivered again"
            );
        }
        answers.all(&outcomes)
    }

    async fn layers(&self, times: Times, outcomes: &mut Outcomes<'_>, answers: &mut Answers) {
        let (store, queues, unreported) = (self.store, self.queues, &self.unreported);
        let reporter = Reporter { agent: A::NAME, schedule: A::SCHEDULE, store, queues, unreported };

        let parsed = parse::layer(outcomes);
        let (state, admitted) = preview::layer(store, A::NAME, parsed, outcomes).await;
        if !admitted.is_empty() {
            self.clear().await;
        }
        let admitted = breaker::layer(store, A::NAME, state, admitted, outcomes).await;
        let admitted = budget::layer(store, A::NAME, self.budget, admitted, outcomes).await;
        let (together, suspects) = suspect::apart(admitted, outcomes.messages);

        if order::is_kept(outcomes.messages) {
            // What has ended by now shows which records it blocks.
            Box::pin(reporter.carry_out(outcomes, answers)).await;
        }
        let mut tried = Vec::new();
        for round in order::rounds(together, outcomes.messages) {
            let round = order::unblocked(round, answers, outcomes);
            let answered = tried.iter().any(|at| breaker::is_answered(outcomes.outcome(*at)));
            tried.extend(self.attempt(round, Times { answered, ..times }, outcomes).await);
            Box::pin(reporter.carry_out(outcomes, answers)).await;
        }
        // What has not ended yet may kill this process: everything else is safe by now.
        let mut suspects = suspects.into_iter();
        for suspect in suspects.by_ref() {
            let Some(suspect) = order::unblocked(vec![suspect], answers, outcomes).pop() else { continue };
            let goes_on = self.alone(suspect, times, outcomes, &mut tried).await;
            Box::pin(reporter.carry_out(outcomes, answers)).await;
            if !goes_on {
                break;
            }
        }
        suspects.for_each(|left| left.return_untried("the one tried before it was returned", Cause::Passing, outcomes));

        tried.sort_unstable();
        let mut streak = self.streak.take();
        breaker::report(store, A::NAME, state, &mut streak, &tried, outcomes).await;
        self.streak.set(streak);
        outcomes.close();
        Box::pin(reporter.carry_out(outcomes, answers)).await;
    }

    /// From an event that may be tried to its outcome: the innermost layers. Returns the places of those that the agent was asked about.
    async fn attempt(&self, admitted: Vec<Admitted>, times: Times, outcomes: &mut Outcomes<'_>) -> Vec<usize> {
        if admitted.is_empty() {
            return Vec::new();
        }
        let Times { deadline, fair, answered } = times;
        let whole = payload::layer(self.store, A::NAME, admitted, deadline, outcomes).await;
        let current = upcast::layer(A::UPCASTS, whole, outcomes);
        let asked = current.iter().filter(|record| record.refused.is_none()).map(|record| record.parsed.at).collect();
        // A record that gathers for too long must not take the time in which the others commit.
        let gather_by = Instant::now() + deadline.saturating_duration_since(Instant::now()).mul_f64(0.75);
        let policy = WaitPolicy { until: gather_by, fair, answered };
        let decided = decide::layer(self.agent, current, policy, outcomes).await;
        let terms = Terms { budget: self.budget, policy: WaitPolicy { until: deadline, ..policy } };
        commit::layer(self.agent, self.store, decided, terms, outcomes).await;
        asked
    }

    /// Tries one suspect with nothing else in the process, counted beforehand. Says whether the next one is worth trying: not after one that was
    /// returned, since whatever stopped this one stops the next.
    async fn alone(
        &self,
        suspect: Admitted,
        times: Times,
        outcomes: &mut Outcomes<'_>,
        tried: &mut Vec<usize>,
    ) -> bool {
        let (at, standing) = (suspect.parsed.at, &suspect.standing);
        if times.deadline.saturating_duration_since(Instant::now()) < ALONE {
            suspect.return_untried(Refusal::OutOfTime.to_string(), Cause::Passing, outcomes);
            return false;
        }
        let ask = Ask { event_id: standing.event_id, run: standing.run, epoch: Some(standing.epoch) };
        let deaths = match self.store.suspect(A::NAME, &ask).await {
            Ok(deaths) => deaths,
            Err(error) => {
                suspect.return_untried(error.to_string(), Cause::Passing, outcomes);
                return false;
            }
        };
        if deaths > suspect::MAX_DEATHS {
            let detail = format!("its process died {} times with nothing else in it", deaths - 1);
            // In shadow mode that is what is stored, and the agent is not asked about it.
            if let Some(refused) = suspect.refuse(Reason::ProcessDied, detail, outcomes) {
                self.attempt(vec![refused], times, outcomes).await;
            }
            return true;
        }
        tried.extend(self.attempt(vec![suspect], times, outcomes).await);
        let returned = matches!(outcomes.outcome(at), Some(Outcome::Returned { .. }));
        // What is settled or parked needs no clearing: it is not tried again.
        if returned || matches!(outcomes.outcome(at), Some(Outcome::Retry { .. })) {
            self.uncleared.set([self.uncleared.take(), vec![ask]].concat());
            self.clear().await;
        }
        !returned
    }

    /// Takes back the deaths that were counted beforehand and did not come. Where the ledger does not answer, the next batch tries again.
    async fn clear(&self) {
        let survived = self.uncleared.take();
        if survived.is_empty() {
            return;
        }
        self.uncleared.set(survived.clone());
        match self.store.survived(A::NAME, &survived).await {
            Ok(()) => self.uncleared.set(Vec::new()),
            Err(error) => {
                tracing::warn!(agent = A::NAME, %error, "records that their process has survived could not be cleared");
            }
        }
    }
}
