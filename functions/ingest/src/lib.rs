#![doc = include_str!("../README.md")]

mod read;
mod settings;
mod take;

pub use read::{Refused, row};
pub use take::{Ingest, NAME};

use settings::Settings;
use switchyard_bus::SqsQueues;
use switchyard_runtime::{Answer, Environment, Invocation, Message, StartError, open_store};

/// Reads the configuration and makes the clients, once per process.
///
/// # Errors
/// [`StartError`] for a setting that is missing or wrong.
pub async fn start() -> Result<Ingest<SqsQueues>, StartError> {
    let environment = Environment;
    let settings = Settings::read(environment)?;
    let aws = switchyard_bus::aws::settings().await;
    let queues = SqsQueues::new(&aws, settings.queue_url, settings.dead_letter_url);
    Ok(Ingest::new(open_store(environment, &aws).await?, queues, settings.max_hops))
}

/// One invocation: a batch of messages from the queue, and an answer for each.
pub async fn handle(ingest: &Ingest<SqsQueues>, messages: Vec<Message>, _: Invocation) -> Vec<Answer> {
    Box::pin(ingest.take(messages)).await
}
