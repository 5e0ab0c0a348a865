//! What a handler says to the queue it was fed from.

use crate::{BusError, MemoryQueue, Message, Queue, SqsQueue};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// A received message that should come again, not before `delay` is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The receipt handle of this receive.
    pub receipt_handle: String,
    /// The ARN of the queue that it was received from; none where the agent has only one.
    pub queue_arn: Option<String>,
    /// How long; rounded up to whole seconds, at most twelve hours.
    pub delay: Duration,
}

/// A message for the dead-letter queue.
pub type DeadLetter = Message;

/// The queue of an agent, or its two lanes, and its dead-letter queue.
#[allow(async_fn_in_trait)]
pub trait Queues {
    /// Sets when received messages come again. Best effort: one that could not be held back comes again when its visibility timeout ends,
    /// so the caller reports it as failed all the same. Returns how many could not.
    async fn hold(&self, holds: &[Hold]) -> usize;

    /// Puts messages into the dead-letter queue. The answers stand in the order of the messages: what is `Ok` is there; what is
    /// not may be there too, and twice after another try. See [`Queue::send`] for what no queue takes.
    async fn bury(&self, letters: &[DeadLetter]) -> Vec<Result<(), BusError>>;
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
    async fn hold(&self, holds: &[Hold]) -> usize {
        let is_express = |hold: &&Hold| {
            let (arn, express) = (hold.queue_arn.as_deref(), self.express.as_ref());
            arn.zip(express).is_some_and(|(arn, express)| express.has_arn(arn))
        };
        let (express, usual): (Vec<&Hold>, Vec<&Hold>) = holds.iter().partition(is_express);
        let mut missed = 0;
        for (queue, holds) in self.express.iter().zip([express]).chain([(&self.queue, usual)]) {
            let holds: Vec<_> = holds.into_iter().map(|hold| (hold.receipt_handle.as_str(), hold.delay)).collect();
            missed += queue.hide(&holds).await;
        }
        missed
    }

    async fn bury(&self, letters: &[DeadLetter]) -> Vec<Result<(), BusError>> {
        self.dead_letters.send(letters).await
    }
}

/// Queues in memory: what was held and what was buried, in order.
#[derive(Debug, Clone, Default)]
pub struct MemoryQueues {
    held: Arc<Mutex<Vec<Hold>>>,
    buried: MemoryQueue,
}

impl MemoryQueues {
    /// Queues of FIFO.
    #[must_use]
    pub fn fifo() -> Self {
        Self { buried: MemoryQueue::fifo(), ..Self::default() }
    }

    /// Everything held back so far.
    #[must_use]
    pub fn held(&self) -> Vec<Hold> {
        self.held.lock().map(|list| list.clone()).unwrap_or_default()
    }

    /// Everything in the dead-letter queue.
    #[must_use]
    pub fn buried(&self) -> Vec<DeadLetter> {
        self.buried.messages()
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
        self.buried.send(letters).await
    }
}
