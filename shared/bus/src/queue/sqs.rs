//! A queue of SQS.

use super::{Depth, Queue, Received, in_turn, whole_seconds};
use crate::{BATCH_ENTRIES, BusError, Keys, Kind, Message, error::is_setup};
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
};
use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

/// How long a receive waits for a message. Anything above 0 asks all servers of the queue instead of a sample of them (Amazon SQS Developer
/// Guide, "Amazon SQS short and long polling"), so that an empty answer says something.
const WAIT_SECS: i32 = 1;

/// A queue of SQS.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: aws_sdk_sqs::Client,
    url: String,
    kind: Kind,
}

impl SqsQueue {
    /// The queue with this URL, whose end is its kind.
    #[must_use]
    pub fn new(settings: &aws_config::SdkConfig, url: String) -> Self {
        Self { client: aws_sdk_sqs::Client::new(settings), kind: Kind::of(&url), url }
    }

    /// Whether this ARN names it: the last part of both is the queue's name, and an agent's queues are in one account and region.
    pub(crate) fn has_arn(&self, arn: &str) -> bool {
        arn.rsplit(':').next() == self.url.rsplit('/').next()
    }

    /// One call's worth.
    async fn send_call(&self, messages: &[&Message]) -> Result<Vec<Result<(), BusError>>, BusError> {
        const OPERATION: &str = "SendMessageBatch";
        let mut call = self.client.send_message_batch().queue_url(&self.url);
        for (index, message) in messages.iter().enumerate() {
            let mut entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(&message.body);
            let (group, deduplication_id) = message.keys().ids(self.kind);
            entry = entry.set_message_group_id(group).set_message_deduplication_id(deduplication_id);
            for (name, attribute) in message.attributes() {
                let value = MessageAttributeValue::builder()
                    .data_type(attribute.kind)
                    .string_value(&attribute.value)
                    .build()
                    .map_err(|error| BusError::incomplete(OPERATION, &error))?;
                entry = entry.message_attributes(name, value);
            }
            call = call.entries(entry.build().map_err(|error| BusError::incomplete(OPERATION, &error))?);
        }
        let answer = Box::pin(call.send()).await.map_err(|error| BusError::of(OPERATION, &error))?;
        let accepted = answer.successful().iter().map(|entry| entry.id());
        Ok(answers(OPERATION, messages.len(), accepted, answer.failed()))
    }

    async fn delete_ten(&self, handles: &[String]) -> Result<Vec<Result<(), BusError>>, BusError> {
        const OPERATION: &str = "DeleteMessageBatch";
        let mut call = self.client.delete_message_batch().queue_url(&self.url);
        for (index, handle) in handles.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(handle);
            call = call.entries(entry.build().map_err(|error| BusError::incomplete(OPERATION, &error))?);
        }
        let answer = Box::pin(call.send()).await.map_err(|error| BusError::of(OPERATION, &error))?;
        let accepted = answer.successful().iter().map(|entry| entry.id());
        Ok(answers(OPERATION, handles.len(), accepted, answer.failed()))
    }

    async fn set_visibility_of_ten(&self, changes: &[(&str, Duration)]) -> Result<usize, BusError> {
        const OPERATION: &str = "ChangeMessageVisibilityBatch";
        let mut call = self.client.change_message_visibility_batch().queue_url(&self.url);
        for (index, (handle, time)) in changes.iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(*handle)
                .visibility_timeout(whole_seconds(*time));
            call = call.entries(entry.build().map_err(|error| BusError::incomplete(OPERATION, &error))?);
        }
        let answer = Box::pin(call.send()).await.map_err(|error| BusError::of(OPERATION, &error))?;
        Ok(answer.failed().len())
    }

    /// Sets when received messages come again. Returns how many could not be set.
    pub(crate) async fn set_visibility(&self, changes: &[(&str, Duration)]) -> usize {
        let mut missed = 0;
        for ten in changes.chunks(BATCH_ENTRIES) {
            missed += self.set_visibility_of_ten(ten).await.unwrap_or_else(|error| {
                tracing::warn!(%error, messages = ten.len(), "the visibility timeout could not be changed: the messages come again when it ends");
                ten.len()
            });
        }
        missed
    }
}

impl Queue for SqsQueue {
    async fn depth(&self) -> Result<Depth, BusError> {
        use QueueAttributeName::{
            ApproximateNumberOfMessages, ApproximateNumberOfMessagesDelayed, ApproximateNumberOfMessagesNotVisible,
        };
        const OPERATION: &str = "GetQueueAttributes";
        let names =
            [ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible, ApproximateNumberOfMessagesDelayed];
        let call = self.client.get_queue_attributes().queue_url(&self.url).set_attribute_names(Some(names.to_vec()));
        let answer = Box::pin(call.send()).await.map_err(|error| BusError::of(OPERATION, &error))?;
        let number = |name: &QueueAttributeName| {
            let text = answer.attributes().and_then(|all| all.get(name));
            let unsaid = || BusError::refused(OPERATION, format!("the answer has no {name}"), true);
            text.and_then(|text| text.parse().ok()).ok_or_else(unsaid)
        };
        let [visible, in_flight, delayed] = &names;
        Ok(Depth { visible: number(visible)?, in_flight: number(in_flight)?, delayed: number(delayed)? })
    }

    async fn send(&self, messages: &[Message]) -> Vec<Result<(), BusError>> {
        const OPERATION: &str = "SendMessageBatch";
        let call = async |some: &[&Message]| {
            let answered = self.send_call(some).await;
            answered.unwrap_or_else(|error| some.iter().map(|_| Err(error.clone())).collect())
        };
        in_turn::send(OPERATION, self.kind, messages, call).await
    }

    async fn receive(&self, max: usize, visibility: Duration) -> Result<Vec<Received>, BusError> {
        let most = i32::try_from(max.min(BATCH_ENTRIES)).unwrap_or_default();
        if most == 0 {
            return Ok(Vec::new());
        }
        let call = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(most)
            .visibility_timeout(whole_seconds(visibility))
            .wait_time_seconds(WAIT_SECS)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::MessageGroupId)
            .message_system_attribute_names(MessageSystemAttributeName::MessageDeduplicationId);
        let answer = Box::pin(call.send()).await.map_err(|error| BusError::of("ReceiveMessage", &error))?;
        Ok(answer.messages.unwrap_or_default().into_iter().map(|message| received(self.kind, message)).collect())
    }

    async fn delete(&self, receipt_handles: &[String]) -> Vec<Result<(), BusError>> {
        let mut all = Vec::with_capacity(receipt_handles.len());
        for ten in receipt_handles.chunks(BATCH_ENTRIES) {
            match self.delete_ten(ten).await {
                Ok(answers) => all.extend(answers),
                Err(error) => all.extend(ten.iter().map(|_| Err(error.clone()))),
            }
        }
        all
    }

    async fn release(&self, receipt_handles: &[String]) -> usize {
        let now: Vec<_> = receipt_handles.iter().map(|handle| (handle.as_str(), Duration::ZERO)).collect();
        self.set_visibility(&now).await
    }
}

fn received(kind: Kind, message: aws_sdk_sqs::types::Message) -> Received {
    let mut system: HashMap<_, _> = message.attributes.unwrap_or_default();
    let group = system.remove(&MessageSystemAttributeName::MessageGroupId);
    let deduplication_id = system.remove(&MessageSystemAttributeName::MessageDeduplicationId);
    let keys = Keys::of(kind, group, deduplication_id);
    let sent = system.get(&MessageSystemAttributeName::SentTimestamp).and_then(|millis| millis.parse().ok());
    let receives = system.get(&MessageSystemAttributeName::ApproximateReceiveCount);
    let attributes = message.message_attributes.unwrap_or_default().into_iter();
    Received {
        body: message.body.unwrap_or_default(),
        attributes: attributes.filter_map(|(name, value)| Some((name, value.string_value?))).collect(),
        message_id: message.message_id.unwrap_or_default(),
        receipt_handle: message.receipt_handle.unwrap_or_default(),
        keys,
        sent_at: sent.and_then(|millis| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))),
        receives: receives.and_then(|count| count.parse().ok()).unwrap_or(1),
    }
}

/// One answer for each entry of a call. What the answer does not mention is not known to be done: an error, and the same may pass later.
fn answers<'a>(
    operation: &'static str,
    entries: usize,
    accepted: impl Iterator<Item = &'a str>,
    failed: &[BatchResultErrorEntry],
) -> Vec<Result<(), BusError>> {
    let unmentioned = || Err(BusError::refused(operation, "the answer does not mention it", true));
    let mut all: Vec<_> = (0..entries).map(|_| unmentioned()).collect();
    for id in accepted {
        if let Some(slot) = id.parse().ok().and_then(|at: usize| all.get_mut(at)) {
            *slot = Ok(());
        }
    }
    for bad in failed {
        if let Some(slot) = bad.id().parse().ok().and_then(|at: usize| all.get_mut(at)) {
            *slot = Err(BusError {
                operation,
                detail: bad.code().to_owned(),
                // A handle that is none stays none, whoever is said to be at fault.
                transient: !bad.sender_fault() && bad.code() != "ReceiptHandleIsInvalid",
                setup: is_setup(bad.code(), bad.message().unwrap_or_default()),
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn failed(id: &str, sender_fault: bool) -> BatchResultErrorEntry {
        let entry = BatchResultErrorEntry::builder().id(id).code("InvalidMessageContents").sender_fault(sender_fault);
        entry.build().unwrap()
    }

    #[test]
    fn an_answer_that_forgets_an_entry_is_no_success_of_it() {
        let all = answers("SendMessageBatch", 4, ["0"].into_iter(), &[failed("2", true), failed("3", false)]);
        let said: Vec<_> = all.iter().map(|answer| answer.as_ref().map_err(|error| error.transient)).collect();
        assert_eq!(said, [Ok(&()), Err(true), Err(false), Err(true)]);
    }

    proptest! {
        #[test]
        fn no_answer_of_a_service_moves_an_entry_or_makes_one(
            entries in 0usize..12,
            ids in prop::collection::vec("[0-9]{0,3}|[a-z-]{1,4}|18446744073709551616", 0..20),
            bad in prop::collection::vec("[0-9]{0,3}|x", 0..5),
        ) {
            let failures: Vec<_> = bad.iter().map(|id| failed(id, true)).collect();
            let all = answers("SendMessageBatch", entries, ids.iter().map(String::as_str), &failures);
            prop_assert_eq!(all.len(), entries);
            let names = |list: &[String], at: usize| list.iter().any(|id| id.parse::<usize>().ok() == Some(at));
            for (at, answer) in all.iter().enumerate() {
                prop_assert_eq!(answer.is_ok(), names(&ids, at) && !names(&bad, at));
            }
        }
    }
}
