//! Publishing to a topic.

use crate::{BATCH_ENTRIES, BusError, Kind, Message, TOPIC_BYTES};
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// The answer to one entry of a call.
pub type Published = Result<(), Refused>;

/// An entry that the topic refused while it may have taken its neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The service's word for it.
    pub code: String,
    /// Whether the entry itself is at fault, so that sending it again cannot help.
    pub permanent: bool,
}

/// A topic.
#[allow(async_fn_in_trait)]
pub trait Topic {
    /// Publishes one call's worth: at most ten messages and the topic's limit of bytes (see [`crate::pack`]).
    ///
    /// Atomicity: none. The answers stand in the order of the messages; each message is published or refused by itself, and any may have
    /// been published before the call failed as a whole, so a caller that tries again publishes at least once.
    /// Ordering: on a standard topic none between the messages of a call; on a FIFO topic that of the call within each group.
    /// Copies: on FIFO a message with the deduplication id of a message of the last five minutes is accepted and not delivered.
    ///
    /// # Errors
    /// [`BusError`]: transient if the call as a whole was not answered, not transient for a call that no topic takes (no message, more than
    /// ten, too many bytes, on FIFO one without its keys) or that the topic refuses as a whole, because of one entry or of the set-up.
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Published>, BusError>;
}

/// Refuses what no topic takes, before it costs a call.
fn acceptable(kind: Kind, messages: &[Message]) -> Result<(), BusError> {
    let bytes: usize = messages.iter().map(Message::size).sum();
    let too_large = bytes > TOPIC_BYTES && !switchyard_faults::bug("batch_sum_ignored");
    if messages.is_empty() || messages.len() > BATCH_ENTRIES || too_large {
        let detail = format!("{} messages of {bytes} bytes in one call", messages.len());
        return Err(BusError::refused("PublishBatch", detail, false));
    }
    match messages.iter().find_map(|message| message.keys().fault()) {
        Some(fault) if kind.is_fifo() => Err(BusError::refused("PublishBatch", fault, false)),
        _ => Ok(()),
    }
}

/// A topic of SNS.
#[derive(Debug, Clone)]
pub struct SnsTopic {
    client: aws_sdk_sns::Client,
    arn: String,
    kind: Kind,
}

impl SnsTopic {
    /// The topic with this ARN, whose end is its kind.
    #[must_use]
    pub fn new(settings: &aws_config::SdkConfig, arn: String) -> Self {
        Self { client: aws_sdk_sns::Client::new(settings), kind: Kind::of(&arn), arn }
    }
}

impl Topic for SnsTopic {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Published>, BusError> {
        acceptable(self.kind, messages)?;
        let mut entries = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            let mut entry = PublishBatchRequestEntry::builder().id(index.to_string()).message(&message.body);
            // A standard topic hands the group on to standard queues (Amazon SNS API Reference, PublishBatchRequestEntry).
            let (group, deduplication_id) = message.keys().ids(self.kind);
            entry = entry.set_message_group_id(group).set_message_deduplication_id(deduplication_id);
            for (name, attribute) in message.attributes() {
                let value = MessageAttributeValue::builder()
                    .data_type(attribute.kind)
                    .string_value(&attribute.value)
                    .build()
                    .map_err(|error| BusError::incomplete("PublishBatch", &error))?;
                entry = entry.message_attributes(name, value);
            }
            entries.push(entry.build().map_err(|error| BusError::incomplete("PublishBatch", &error))?);
        }
        let answer = self
            .client
            .publish_batch()
            .topic_arn(&self.arn)
            .set_publish_batch_request_entries(Some(entries))
            .send()
            .await
            .map_err(|error| BusError::of("PublishBatch", &error))?;

        // What the answer does not mention is not known to be published: refused, and tried again.
        let mut published = vec![Err(Refused { code: "Unanswered".into(), permanent: false }); messages.len()];
        for ok in answer.successful() {
            if let Some(slot) = ok.id().and_then(|id| id.parse().ok()).and_then(|at: usize| published.get_mut(at)) {
                *slot = Ok(());
            }
        }
        for bad in answer.failed() {
            if let Some(slot) = bad.id().parse().ok().and_then(|at: usize| published.get_mut(at)) {
                // A right that is missing is the sender's fault to SNS, and yet not the entry's.
                let permanent =
                    bad.sender_fault() && !crate::error::is_setup(bad.code(), bad.message().unwrap_or_default());
                *slot = Err(Refused { code: bad.code().to_owned(), permanent });
            }
        }
        Ok(published)
    }
}

/// A topic in memory: what was published, in order. For tests and for comparing against the real one.
#[derive(Debug, Clone, Default)]
pub struct MemoryTopic {
    kind: Kind,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    published: Vec<Message>,
    /// The deduplication ids of all of them: no time passes here.
    deduplication_ids: BTreeSet<String>,
}

impl MemoryTopic {
    /// A FIFO topic.
    #[must_use]
    pub fn fifo() -> Self {
        Self { kind: Kind::Fifo, ..Self::default() }
    }

    /// Everything published so far.
    #[must_use]
    pub fn published(&self) -> Vec<Message> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).published.clone()
    }
}

impl Topic for MemoryTopic {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Published>, BusError> {
        acceptable(self.kind, messages)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for message in messages {
            let copy = self.kind.is_fifo()
                && message.keys().deduplication_id.clone().is_some_and(|id| !state.deduplication_ids.insert(id));
            if !copy {
                state.published.push(message.clone());
            }
        }
        Ok(vec![Ok(()); messages.len()])
    }
}
