//! An agent as a Lambda function. The layers stand in [`handle`], outermost first.

use crate::{
    Budget, Database, Environment,
    batch::{Admitted, Cause, Ending, Endings},
    breaker::{self, Streak},
    budget,
    commit::{self, Terms},
    database::Tx,
    decide::{self, Patience},
    log, look, order,
    outcome::{Again, Desk},
    parse::{self, Message},
    payload,
    serve::{Invocation, block_on, serve_with},
    suspect, upcast,
};
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use std::{cell::Cell, process::ExitCode, time::Duration};
use switchyard_agent::{Agent, Declaration};
use switchyard_bus::{Queues, SqsQueues};
use switchyard_event::Reason;
use switchyard_store::{Ask, Store};
use tokio::time::{Instant, timeout_at};

/// What is kept of an invocation's time for reporting: a few round trips to the ledger and two to the queues. Nothing of the agent's runs into it,
/// so that the end of the time does not fall between a commit and its answer. Where it is not enough, because one of them does not answer, what
/// has not been settled by then comes again.
const RESERVE: Duration = Duration::from_secs(10);

/// How long the runtime waits for one answer of the ledger. An agent's own reads may take the time that it has.
const LEDGER: Duration = Duration::from_secs(10);

/// What is kept of the reserve for the answer itself.
const ANSWER: Duration = Duration::from_millis(500);

/// The least time in which a record is worth trying alone: one that is cut short by the end of the time would look like one that kills.
const ALONE: Duration = Duration::from_secs(2);

/// Runs an agent until Lambda ends the process. With the argument `declare`, prints what the agent declares as JSON and ends.
///
/// A configuration that is missing or wrong ends the process with one line that names it.
pub fn run_agent<A: Agent<Tx = Tx>>(agent: impl FnOnce(Database) -> A) -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("declare") => print(&serde_json::json!(Declaration::of::<A>()).to_string()),
        Some(other) => {
            eprintln_line(&format!(
                "unknown argument {other:?}: `declare` prints what the agent declares; without an argument, this is a Lambda function"
            ));
            ExitCode::from(2)
        }
        None => block_on(async {
            log::start();
            let (store, queues, budget) = clients().await?;
            let (agent, store) = (agent(Database::new(store.clone())), store.within(LEDGER));
            let worker = Worker::new(&agent, &store, &queues, budget);
            serve_with(async |event: SqsEvent, invocation: Invocation| {
                let answer = Box::pin(worker.handle(event, invocation.deadline)).await;
                // An answer of null means to Lambda that all went well; `Some` is what this always is outside of the fault suite.
                Ok((!switchyard_faults::bug("null_response")).then_some(answer))
            })
            .await
        }),
    }
}

/// One batch through the layers: what [`run_agent`] does for each invocation, by a process that remembers nothing. Public for tests, which
/// bring their own queues and deadline.
///
/// Never fails: the answer names the records that must come again.
pub async fn handle<A: Agent<Tx = Tx>, Q: Queues>(
    agent: &A,
    store: &Store,
    queues: &Q,
    event: SqsEvent,
    ends: Instant,
) -> SqsBatchResponse {
    Worker::new(agent, store, queues, Budget::DEFAULT).handle(event, ends).await
}

/// A process of an agent: what it works with, and what it remembers from one batch to the next.
pub struct Worker<'a, A, Q> {
    agent: &'a A,
    store: &'a Store,
    queues: &'a Q,
    budget: Budget,
    streak: Cell<Streak>,
    /// What was returned and the ledger has not been told of.
    untold: Cell<Vec<Ask>>,
    /// Suspects that this process has tried and survived, and the ledger still counts as its deaths.
    uncleared: Cell<Vec<Ask>>,
}

/// The times of one invocation.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Nothing of the agent's runs longer.
    deadline: Instant,
    /// Half of what the agent has at most: [`Patience::fair`].
    fair: Duration,
    /// [`Patience::answered`].
    answered: bool,
}

impl<'a, A: Agent<Tx = Tx>, Q: Queues> Worker<'a, A, Q> {
    /// A process that has just started.
    #[must_use]
    pub fn new(agent: &'a A, store: &'a Store, queues: &'a Q, budget: Budget) -> Self {
        let (streak, untold, uncleared) = Default::default();
        Self { agent, store, queues, budget, streak, untold, uncleared }
    }

    /// One batch through the layers. Never fails: the answer names the records that must come again. `ends` is when the process may be
    /// stopped; ten seconds of it are kept for reporting.
    pub async fn handle(&self, event: SqsEvent, ends: Instant) -> SqsBatchResponse {
        let now = Instant::now();
        let before_the_end = |time| ends.checked_sub(time).unwrap_or(now);
        let deadline = before_the_end(RESERVE);
        let times = Times { deadline, fair: deadline.saturating_duration_since(now) / 2, answered: false };
        let messages: Vec<Message> = event.records.into_iter().map(Message::from).collect();
        let (mut endings, mut again) = (Endings::of(&messages), Again::all_of(&messages));

        // Boxed: the futures of an AWS SDK are so deep that the compiler gives up on laying out one around them.
        let layers = Box::pin(self.layers(times, &mut endings, &mut again));
        if timeout_at(before_the_end(ANSWER), layers).await.is_err() {
            tracing::warn!(
                agent = A::NAME,
                "the time was not enough for reporting: what is not known to be settled comes again"
            );
        }
        again.answer(&endings)
    }

    async fn layers(&self, times: Times, endings: &mut Endings<'_>, again: &mut Again) {
        let (store, queues, untold) = (self.store, self.queues, &self.untold);
        let desk = Desk { agent: A::NAME, schedule: A::SCHEDULE, store, queues, untold };

        let parsed = parse::layer(endings);
        let (state, admitted) = look::layer(store, A::NAME, parsed, endings).await;
        if !admitted.is_empty() {
            self.clear().await;
        }
        let admitted = breaker::layer(store, A::NAME, state, admitted, endings).await;
        let admitted = budget::layer(store, A::NAME, self.budget, admitted, endings).await;
        let (together, suspects) = suspect::apart(admitted, endings.messages);

        if order::counts(endings.messages) {
            // What has ended by now shows whom it holds back.
            Box::pin(desk.carry_out(endings, again)).await;
        }
        let mut tried = Vec::new();
        for turn in order::turns(together, endings.messages) {
            let turn = order::free(turn, again, endings);
            let answered = tried.iter().any(|at| breaker::is_answered(endings.ending(*at)));
            tried.extend(self.attempt(turn, Times { answered, ..times }, endings).await);
            Box::pin(desk.carry_out(endings, again)).await;
        }
        // What has not ended yet may kill this process: everything else is safe by now.
        let mut suspects = suspects.into_iter();
        for suspect in suspects.by_ref() {
            let Some(suspect) = order::free(vec![suspect], again, endings).pop() else { continue };
            let went_on = self.alone(suspect, times, endings, &mut tried).await;
            Box::pin(desk.carry_out(endings, again)).await;
            if !went_on {
                break;
            }
        }
        suspects.for_each(|left| left.give_back("the one tried before it was returned", Cause::Passing, endings));

        tried.sort_unstable();
        let mut streak = self.streak.take();
        breaker::report(store, A::NAME, state, &mut streak, &tried, endings).await;
        self.streak.set(streak);
        endings.close();
        Box::pin(desk.carry_out(endings, again)).await;
    }

    /// From an event that may be tried to its end: the innermost layers. Returns the places of those that the agent was asked about.
    async fn attempt(&self, admitted: Vec<Admitted>, times: Times, endings: &mut Endings<'_>) -> Vec<usize> {
        if admitted.is_empty() {
            return Vec::new();
        }
        let Times { deadline, fair, answered } = times;
        let whole = payload::layer(self.store, A::NAME, admitted, deadline, endings).await;
        let current = upcast::layer(A::UPCASTS, whole, endings);
        let asked = current.iter().filter(|record| record.refused.is_none()).map(|record| record.parsed.at).collect();
        // A record that gathers for too long must not take the time in which the others commit.
        let gather_by = Instant::now() + deadline.saturating_duration_since(Instant::now()).mul_f64(0.75);
        let patience = Patience { until: gather_by, fair, answered };
        let decided = decide::layer(self.agent, current, patience, endings).await;
        let terms = Terms { budget: self.budget, patience: Patience { until: deadline, ..patience } };
        commit::layer(self.agent, self.store, decided, terms, endings).await;
        asked
    }

    /// Tries one suspect with nothing else in hand, counted beforehand. Says whether the next one is worth trying: not after one that was
    /// returned, for whatever kept this one keeps the next.
    async fn alone(&self, suspect: Admitted, times: Times, endings: &mut Endings<'_>, tried: &mut Vec<usize>) -> bool {
        let (at, standing) = (suspect.parsed.at, &suspect.standing);
        if times.deadline.saturating_duration_since(Instant::now()) < ALONE {
            suspect.give_back(decide::OUT_OF_TIME, Cause::Passing, endings);
            return false;
        }
        let ask = Ask { event_id: standing.event_id, run: standing.run, epoch: Some(standing.epoch) };
        let deaths = match self.store.suspect(A::NAME, &ask).await {
            Ok(deaths) => deaths,
            Err(error) => {
                suspect.give_back(error.to_string(), Cause::Passing, endings);
                return false;
            }
        };
        if deaths > suspect::MAX_DEATHS {
            let detail = format!("its process died {} times with nothing else in its hands", deaths - 1);
            // In shadow mode that is what is stored, and nobody is asked about it.
            if let Some(refused) = suspect.refuse(Reason::ProcessDied, detail, endings) {
                self.attempt(vec![refused], times, endings).await;
            }
            return true;
        }
        tried.extend(self.attempt(vec![suspect], times, endings).await);
        let returned = matches!(endings.ending(at), Some(Ending::Returned { .. }));
        // What is settled or parked needs no clearing: nobody tries it again.
        if returned || matches!(endings.ending(at), Some(Ending::Retry { .. })) {
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

/// The clients and settings of an agent's function, made once per process.
async fn clients() -> Result<(Store, SqsQueues, Budget), crate::serve::StartError> {
    let environment = Environment;
    let url = environment.database()?;
    let connections = environment.or("DATABASE_CONNECTIONS", 2, "a whole number")?;
    let queue = environment.required("QUEUE_URL", "the URL of this agent's queue")?;
    let dead_letters = environment.required("DEAD_LETTER_URL", "the URL of this agent's dead-letter queue")?;
    let budget = Budget {
        max_hops: environment.or("MAX_HOPS", Budget::DEFAULT.max_hops, "a whole number")?,
        chain_hours: environment.or("CHAIN_HOURS", Budget::DEFAULT.chain_hours, "a whole number of hours")?,
    };
    let settings = switchyard_bus::aws::settings().await;
    let queues = SqsQueues::new(&settings, queue, dead_letters);
    let queues = match environment.required("EXPRESS_QUEUE_URL", "the URL of this agent's express queue") {
        Ok(express) => queues.with_express(&settings, express),
        // An agent that has asked for none, or a stack whose lanes are closed.
        Err(_) => queues,
    };
    Ok((Store::open(&url, connections)?, queues, budget))
}

#[allow(clippy::print_stdout, reason = "this is a command's answer")]
fn print(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

#[allow(clippy::print_stderr, reason = "one line to a person who started the function by hand")]
pub(crate) fn eprintln_line(line: &str) {
    eprintln!("{line}");
}
