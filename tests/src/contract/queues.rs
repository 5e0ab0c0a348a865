//! The contract of [`Queues`].

use super::message;
use std::time::Duration;
use switchyard_bus::{Message, Queues, Visibility};

/// Every promise of an agent's queues, given the receipt handles of messages that were received from its queue. Returns the messages that are
/// in the dead-letter queue afterwards.
pub async fn keeps_what_queues_promise(queues: &impl Queues, handles: Vec<String>) -> Vec<Message> {
    let mut messages: Vec<Message> = (0..23).map(|n| message(&format!("{n}")).text("reason", "test")).collect();
    messages.insert(11, message("\u{1}"));
    let answers = queues.dead_letter(&messages).await;
    assert_eq!(answers.len(), messages.len(), "one answer for each, though it takes more than one call");
    let refused = answers.iter().position(Result::is_err);
    assert_eq!((refused, answers.iter().filter(|answer| answer.is_err()).count()), (Some(11), 1), "{answers:?}");
    messages.remove(11);
    assert!(queues.dead_letter(&[]).await.is_empty());

    let later = |receipt_handle| Visibility { receipt_handle, queue_arn: None, delay: Duration::from_secs(600) };
    let changes: Vec<Visibility> = handles.into_iter().map(later).collect();
    assert_eq!(queues.set_visibility(&changes).await, 0, "all are set");
    assert_eq!(queues.set_visibility(&[]).await, 0);
    messages
}
