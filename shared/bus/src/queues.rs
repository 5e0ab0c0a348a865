//! What a handler says to the queue it was fed from.

use crate::{BATCH_ENTRIES, BusError, Message};
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue, SendMessageBatchRequestEntry,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// The longest that a message can be held back (Amazon SQS API Reference, ChangeMessageVisibility).
const MAX_HOLD: Duration = Duration::from_secs(12 * 60 * 60);

/// A received message that should come again, not before `delay` is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The receipt handle of this receive.
    pub receipt_handle: String,
    /// How long; rounded up to whole seconds, at most twelve hours.
    pub delay: Duration,
}

/// A message for the dead-letter queue.
pub type DeadLetter = Message;

/// The queue of an agent and its dead-letter queue.
#[allow(async_fn_in_trait)]
pub trait Queues {
    /// Sets when received messages come again. Best effort: one that could not be held back comes again when its visibility timeout ends,
    /// so the caller reports it as failed all the same. Returns how many could not.
    async fn hold(&self, holds: &[Hold]) -> usize;

    /// Puts messages into the dead-letter queue. The answers stand in the order of the messages: only what is there is `true`, and a
    /// message may be there twice after a failure in between.
    async fn bury(&self, letters: &[DeadLetter]) -> Vec<Result<(), BusError>>;
}

/// The queues of one agent on SQS.
#[derive(Debug, Clone)]
pub struct SqsQueues {
    client: aws_sdk_sqs::Client,
    queue_url: String,
    dead_letter_url: String,
}

impl SqsQueues {
    /// The queue and dead-letter queue with these URLs.
    #[must_use]
    pub fn new(settings: &aws_config::SdkConfig, queue_url: String, dead_letter_url: String) -> Self {
        Self { client: aws_sdk_sqs::Client::new(settings), queue_url, dead_letter_url }
    }

    async fn hold_ten(&self, holds: &[Hold]) -> Result<usize, BusError> {
        let mut call = self.client.change_message_visibility_batch().queue_url(&self.queue_url);
        for (index, hold) in holds.iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(&hold.receipt_handle)
                .visibility_timeout(whole_seconds(hold.delay))
                .build()
                .map_err(|error| incomplete("ChangeMessageVisibilityBatch", &error))?;
            call = call.entries(entry);
        }
        let answer = call.send().await.map_err(|error| BusError::of("ChangeMessageVisibilityBatch", &error))?;
        Ok(answer.failed().len())
    }

    async fn bury_ten(&self, letters: &[DeadLetter]) -> Result<Vec<Result<(), BusError>>, BusError> {
        const OPERATION: &str = "SendMessageBatch";
        let mut call = self.client.send_message_batch().queue_url(&self.dead_letter_url);
        for (index, letter) in letters.iter().enumerate() {
            let mut entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(&letter.body);
            for (name, attribute) in letter.attributes() {
                let value = MessageAttributeValue::builder()
                    .data_type(attribute.kind)
                    .string_value(&attribute.value)
                    .build()
                    .map_err(|error| incomplete(OPERATION, &error))?;
                entry = entry.message_attributes(name, value);
            }
            call = call.entries(entry.build().map_err(|error| incomplete(OPERATION, &error))?);
        }
        let answer = call.send().await.map_err(|error| BusError::of(OPERATION, &error))?;
        let mut buried: Vec<_> =
            letters.iter().map(|_| Err(refused(OPERATION, "the answer does not mention it", true))).collect();
        for ok in answer.successful() {
            if let Some(slot) = ok.id().parse().ok().and_then(|at: usize| buried.get_mut(at)) {
                *slot = Ok(());
            }
        }
        for bad in answer.failed() {
            if let Some(slot) = bad.id().parse().ok().and_then(|at: usize| buried.get_mut(at)) {
                *slot = Err(refused(OPERATION, bad.code(), !bad.sender_fault()));
            }
        }
        Ok(buried)
    }
}

impl Queues for SqsQueues {
    async fn hold(&self, holds: &[Hold]) -> usize {
        let mut missed = 0;
        for ten in holds.chunks(BATCH_ENTRIES) {
            missed += self.hold_ten(ten).await.unwrap_or_else(|error| {
                tracing::warn!(%error, messages = ten.len(), "messages come again when their visibility timeout ends, not after their backoff");
                ten.len()
            });
        }
        missed
    }

    async fn bury(&self, letters: &[DeadLetter]) -> Vec<Result<(), BusError>> {
        // SQS takes 1 MiB a call, attributes included (Amazon SQS Developer Guide, "Amazon SQS message quotas").
        let calls = crate::pack(letters.iter().collect(), 1024 * 1024, |letter| letter.size());
        let mut all = Vec::with_capacity(letters.len());
        for call in calls {
            let ten: Vec<DeadLetter> = call.into_iter().cloned().collect();
            match self.bury_ten(&ten).await {
                Ok(answers) => all.extend(answers),
                Err(error) => {
                    all.extend(ten.iter().map(|_| Err(refused(error.operation, &error.detail, error.transient))));
                }
            }
        }
        all
    }
}

fn whole_seconds(delay: Duration) -> i32 {
    let delay = delay.min(MAX_HOLD);
    i32::try_from(delay.as_millis().div_ceil(1_000)).unwrap_or(i32::MAX)
}

fn refused(operation: &'static str, detail: &str, transient: bool) -> BusError {
    BusError { operation, detail: detail.to_owned(), transient, setup: false }
}

fn incomplete(operation: &'static str, error: &aws_sdk_sqs::error::BuildError) -> BusError {
    refused(operation, &error.to_string(), false)
}

/// Queues in memory: what was held and what was buried, in order.
#[derive(Debug, Clone, Default)]
pub struct MemoryQueues {
    held: Arc<Mutex<Vec<Hold>>>,
    buried: Arc<Mutex<Vec<DeadLetter>>>,
}

impl MemoryQueues {
    /// Everything held back so far.
    #[must_use]
    pub fn held(&self) -> Vec<Hold> {
        self.held.lock().map(|list| list.clone()).unwrap_or_default()
    }

    /// Everything in the dead-letter queue.
    #[must_use]
    pub fn buried(&self) -> Vec<DeadLetter> {
        self.buried.lock().map(|list| list.clone()).unwrap_or_default()
    }
}

impl Queues for MemoryQueues {
    async fn hold(&self, holds: &[Hold]) -> usize {
        if let Ok(mut list) = self.held.lock() {
            list.extend_from_slice(holds);
        }
        0
    }

    async fn bury(&self, letters: &[DeadLetter]) -> Vec<Result<(), BusError>> {
        if let Ok(mut list) = self.buried.lock() {
            list.extend_from_slice(letters);
        }
        letters.iter().map(|_| Ok(())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_whole_seconds_rounded_up_and_at_most_twelve_hours() {
        let seconds = |millis| whole_seconds(Duration::from_millis(millis));
        assert_eq!([seconds(0), seconds(1), seconds(1_000), seconds(1_001)], [0, 1, 1, 2]);
        assert_eq!(whole_seconds(Duration::from_secs(u64::MAX)), 43_200);
    }
}
