//! The contract of [`Queues`].

use super::message;
use std::time::Duration;
use switchyard_bus::{Hold, Message, Queues};

/// Every promise of an agent's queues, given the receipt handles of messages that were received from its queue. Returns the messages that are
/// in the dead-letter queue afterwards.
pub async fn keeps_what_queues_promise(queues: &impl Queues, handles: Vec<String>) -> Vec<Message> {
    let mut letters: Vec<Message> = (0..23).map(|n| message(&format!("{n}")).text("reason", "test")).collect();
    letters.insert(11, message("\u{1}"));
    let buried = queues.bury(&letters).await;
    assert_eq!(buried.len(), letters.len(), "one answer for each, though it takes more than one call");
    let refused = buried.iter().position(Result::is_err);
    assert_eq!((refused, buried.iter().filter(|answer| answer.is_err()).count()), (Some(11), 1), "{buried:?}");
    letters.remove(11);
    assert!(queues.bury(&[]).await.is_empty());

    let hold = |receipt_handle| Hold { receipt_handle, queue_arn: None, delay: Duration::from_secs(600) };
    let holds: Vec<Hold> = handles.into_iter().map(hold).collect();
    assert_eq!(queues.hold(&holds).await, 0, "all are held");
    assert_eq!(queues.hold(&[]).await, 0);
    letters
}
