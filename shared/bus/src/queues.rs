//! The two things that a handler does with a message that it has received: set when it comes again, or dead-letter it.

use crate::{BusError, MemoryQueue, Message, Queue, SqsQueue};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// A received message that comes again after `delay`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visibility {
    /// The receipt handle of this receive.
    pub receipt_handle: String,
    /// The ARN of the queue that it was received from; `None` where the agent has only one.
    pub queue_arn: Option<String>,
    /// How long it stays invisible; rounded up to whole seconds, at most twelve hours.
    pub delay: Duration,
}

/// A message for the dead-letter queue.
pub type DeadLetter = Message;

/// The queue of an agent, its express queue where it has one, and its dead-letter queue.
#[allow(async_fn_in_trait)]
pub trait Queues {
    /// Sets when received messages come again. Best effort: one that could not be set comes again when its visibility timeout ends,
    /// so the caller reports it as failed all the same. Returns how many could not be set.
    async fn set_visibility(&self, changes: &[Visibility]) -> usize;

    /// Sends messages to the dead-letter queue. The answers are in the order of the messages: `Ok` is in the queue; `Err` may be there too, and
    /// twice after another try. See [`Queue::send`] for what no queue takes.
    async fn dead_letter(&self, messages: &[DeadLetter]) -> Vec<Result<(), BusError>>;
}

/// The queues of one agent on SQS.
#[derive(Debug, Clone)]
pub struct SqsQueues {
    queue: SqsQueue,
    express: Option<SqsQueue>,
    dead_letters: SqsQueue,
}

impl SqsQueues {
    /// The queue and dead-letter queue with these URLs.
    #[must_use]
    pub fn new(settings: &aws_config::SdkConfig, queue_url: String, dead_letter_url: String) -> Self {
        let (queue, dead_letters) = (SqsQueue::new(settings, queue_url), SqsQueue::new(settings, dead_letter_url));
        Self { queue, express: None, dead_letters }
    }

    /// The same with an express queue, which shares the dead-letter queue.
    #[must_use]
    pub fn with_express(mut self, settings: &aws_config::SdkConfig, express_url: String) -> Self {
        self.express = Some(SqsQueue::new(settings, express_url));
        self
    }
}

impl Queues for SqsQueues {
    async fn set_visibility(&self, changes: &[Visibility]) -> usize {
        let is_express = |change: &&Visibility| {
            let (arn, express) = (change.queue_arn.as_deref(), self.express.as_ref());
            arn.zip(express).is_some_and(|(arn, express)| express.has_arn(arn))
        };
        let (express, others): (Vec<&Visibility>, Vec<&Visibility>) = changes.iter().partition(is_express);
        let mut missed = 0;
        for (queue, changes) in self.express.iter().zip([express]).chain([(&self.queue, others)]) {
            let changes: Vec<_> = changes.into_iter().map(|one| (one.receipt_handle.as_str(), one.delay)).collect();
            missed += queue.set_visibility(&changes).await;
        }
        missed
    }

    async fn dead_letter(&self, messages: &[DeadLetter]) -> Vec<Result<(), BusError>> {
        self.dead_letters.send(messages).await
    }
}

/// Queues in memory: every visibility that was set and every dead letter, in order.
#[derive(Debug, Clone, Default)]
pub struct MemoryQueues {
    visibilities: Arc<Mutex<Vec<Visibility>>>,
    dead_letters: MemoryQueue,
}

impl MemoryQueues {
    /// FIFO queues.
    #[must_use]
    pub fn fifo() -> Self {
        Self { dead_letters: MemoryQueue::fifo(), ..Self::default() }
    }

    /// Every visibility that was set so far.
    #[must_use]
    pub fn visibilities(&self) -> Vec<Visibility> {
        self.visibilities.lock().map(|list| list.clone()).unwrap_or_default()
    }

    /// Everything in the dead-letter queue.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.dead_letters.messages()
    }
}

impl Queues for MemoryQueues {
    async fn set_visibility(&self, changes: &[Visibility]) -> usize {
        if let Ok(mut list) = self.visibilities.lock() {
            list.extend_from_slice(changes);
        }
        0
    }

    async fn dead_letter(&self, messages: &[DeadLetter]) -> Vec<Result<(), BusError>> {
        self.dead_letters.send(messages).await
    }
}
