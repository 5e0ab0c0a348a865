#![doc = include_str!("../README.md")]

pub mod aws;
mod message;
mod queues;
mod topic;

pub use message::{BATCH_ENTRIES, MAX_ATTRIBUTES, Message, TOPIC_BYTES, pack};
pub use queues::{DeadLetter, Hold, MemoryQueues, Queues, SqsQueues};
pub use topic::{MemoryTopic, Published, Refused, SnsTopic, Topic};

use thiserror::Error;

/// The bus did not take what it was given.
#[derive(Debug, Error)]
#[error("{operation} failed: {detail}")]
pub struct BusError {
    /// The call, in AWS's words.
    pub operation: &'static str,
    /// The service's answer or what kept it from answering; holds no payload.
    pub detail: String,
    /// Whether the same call may succeed later (throttling, timeouts, 5xx): costs no attempt.
    pub transient: bool,
}

impl BusError {
    /// What an SDK error says, without its debug print: that one holds the request.
    fn of<E: std::error::Error + aws_sdk_sqs::error::ProvideErrorMetadata + 'static, R: std::fmt::Debug + 'static>(
        operation: &'static str,
        error: &aws_sdk_sqs::error::SdkError<E, R>,
    ) -> Self {
        let (detail, transient) = match error.as_service_error() {
            Some(service) => {
                let code = service.code().unwrap_or("unknown error");
                let transient = ["Throttl", "TooManyRequests", "Internal", "Unavailable", "Timeout", "InUse"]
                    .iter()
                    .any(|part| code.contains(part));
                (format!("{code}: {}", service.message().unwrap_or("no message")), transient)
            }
            None => (aws_sdk_sqs::error::DisplayErrorContext(error).to_string(), true),
        };
        Self { operation, detail, transient }
    }
}
