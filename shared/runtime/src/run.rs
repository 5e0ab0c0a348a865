//! An agent as a program: its commands, and its clients.

use crate::{
    Budget, Database, Environment, Worker,
    database::Tx,
    lambda, log,
    secret::open_store,
    start::{StartError, block_on, print_error},
};
use std::{process::ExitCode, time::Duration};
use switchyard_agent::{Agent, Declaration};
use switchyard_bus::SqsQueues;
use switchyard_store::Store;

/// How long the runtime waits for one answer of the ledger. An agent's own reads may take the time that it has.
const LEDGER: Duration = Duration::from_secs(10);

/// Runs an agent until Lambda ends the process. With the argument `declare`, prints what the agent declares as JSON and ends.
///
/// A configuration that is missing or wrong ends the process with one line that names it.
pub fn run_agent<A: Agent<Tx = Tx>>(agent: impl FnOnce(Database) -> A) -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("declare") => print(&serde_json::json!(Declaration::of::<A>()).to_string()),
        Some(other) => {
            print_error(&format!(
                "unknown argument {other:?}: `declare` prints what the agent declares; without an argument, this is a Lambda function"
            ));
            ExitCode::from(2)
        }
        None => block_on(async {
            log::start();
            let (store, queues, budget) = clients().await?;
            let (agent, store) = (agent(Database::new(store.clone())), store.within(LEDGER));
            let worker = Worker::new(&agent, &store, &queues, budget);
            lambda::batches(async |messages, invocation| Box::pin(worker.handle(messages, invocation.deadline)).await)
                .await
        }),
    }
}

/// The clients and settings of an agent's function, made once per process.
async fn clients() -> Result<(Store, SqsQueues, Budget), StartError> {
    let environment = Environment;
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
        // The agent has no express queue, or the stack's express queues are off.
        Err(_) => queues,
    };
    Ok((open_store(environment, &settings).await?, queues, budget))
}

#[allow(clippy::print_stdout, reason = "this is a command's answer")]
fn print(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}
