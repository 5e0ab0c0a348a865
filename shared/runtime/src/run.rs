//! An agent as a Lambda function. The layers stand in [`handle`], outermost first.

use crate::{
    Database, Environment,
    batch::Endings,
    commit,
    database::Tx,
    decide, log, look,
    outcome::Desk,
    parse::{self, Message},
    serve::{Invocation, block_on, serve_with},
};
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use std::{process::ExitCode, time::Duration};
use switchyard_agent::{Agent, Declaration};
use switchyard_bus::{Queues, SqsQueues};
use switchyard_store::Store;
use tokio::time::Instant;

/// What is kept of an invocation's time for reporting: a round trip to the database and two to the queues, each with its own timeout. Nothing of
/// the agent's runs into it, so that the end of the time does not fall between a commit and its answer.
const RESERVE: Duration = Duration::from_secs(10);

/// Runs an agent until Lambda ends the process. With the argument `declare`, prints what the agent declares as JSON and ends; with `template`,
/// its block of `template.yaml`.
///
/// A configuration that is missing or wrong ends the process with one line that names it.
pub fn run_agent<A: Agent<Tx = Tx>>(agent: impl FnOnce(Database) -> A) -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("declare") => print(&serde_json::json!(Declaration::of::<A>()).to_string()),
        Some("template") => print(Declaration::of::<A>().template_block().trim_end()),
        Some(other) => {
            eprintln_line(&format!(
                "unknown argument {other:?}: `declare` prints what the agent declares, `template` its block of template.yaml; without one, this is a Lambda function"
            ));
            ExitCode::from(2)
        }
        None => block_on(async {
            log::start();
            let (store, queues) = clients().await?;
            let agent = agent(Database::new(store.clone()));
            serve_with(async |event: SqsEvent, invocation: Invocation| {
                Ok(Box::pin(handle(&agent, &store, &queues, event, invocation.deadline)).await)
            })
            .await
        }),
    }
}

/// One batch through the layers: what [`run_agent`] does for each invocation. Public for tests, which bring their own queues and deadline.
///
/// Never fails: the answer names the records that must come again.
pub async fn handle<A: Agent<Tx = Tx>, Q: Queues>(
    agent: &A,
    store: &Store,
    queues: &Q,
    event: SqsEvent,
    ends: Instant,
) -> SqsBatchResponse {
    let deadline = ends.checked_sub(RESERVE).unwrap_or_else(Instant::now);
    let messages: Vec<Message> = event.records.into_iter().map(Message::from).collect();
    let mut endings = Endings::of(&messages);

    let parsed = parse::layer(A::MAX_VERSION, &mut endings);
    let admitted = look::layer(store, A::NAME, parsed, &mut endings).await;
    // A record that gathers for too long must not take the time in which the others commit.
    let gather_by = Instant::now() + deadline.saturating_duration_since(Instant::now()).mul_f64(0.75);
    let decided = decide::layer(agent, admitted, gather_by, &mut endings).await;
    commit::layer(agent, store, decided, deadline, &mut endings).await;
    let desk = Desk { agent: A::NAME, schedule: A::SCHEDULE, store, queues };
    // Boxed: the futures of an AWS SDK are so deep that the compiler gives up on laying out one around them.
    Box::pin(desk.carry_out(endings)).await
}

/// The clients of an agent's function, made once per process.
async fn clients() -> Result<(Store, SqsQueues), crate::serve::StartError> {
    let environment = Environment;
    let url = environment.database()?;
    let connections = environment.or("DATABASE_CONNECTIONS", 2, "a whole number")?;
    let queue = environment.required("QUEUE_URL", "the URL of this agent's queue")?;
    let dead_letters = environment.required("DEAD_LETTER_URL", "the URL of this agent's dead-letter queue")?;
    let settings = switchyard_bus::aws::settings().await;
    Ok((Store::open(&url, connections)?, SqsQueues::new(&settings, queue, dead_letters)))
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
