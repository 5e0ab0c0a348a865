//! What the traits of the bus promise, as checks that every implementation passes: AWS's on LocalStack, the ones in memory, and AWS's clients
//! against any other server that speaks the same API. Each check is given a rig: the implementation, and what reads its results. A
//! queue needs none.
//!
//! Two capabilities have checks of their own, since not every implementation has them: FIFO (`keeps_what_a_fifo_...`) and tenants
//! ([`returns_the_tenant_of_a_message`]). The tests of one that lacks them state it, by [`lacks_fifo`] and [`lacks_tenants`], and fail as
//! soon as it has them.
//!
//! # Panics
//! Every check panics where a promise is broken: that is how it fails.

mod directory;
mod fifo;
mod functions;
mod mappings;
mod moves;
mod queue;
mod queues;
mod topic;

pub use directory::keeps_what_a_directory_promises;
pub use fifo::{keeps_what_a_fifo_queue_promises, keeps_what_a_fifo_topic_promises, lacks_fifo};
pub use functions::{FunctionsRig, keeps_what_functions_promise};
pub use mappings::keeps_what_mappings_promise;
pub use moves::{MovesRig, keeps_what_moves_promise};
pub use queue::{keeps_what_a_queue_promises, lacks_tenants, returns_the_tenant_of_a_message};
pub use queues::keeps_what_queues_promise;
pub use topic::{TopicRig, keeps_what_a_topic_promises};

use std::{collections::BTreeMap, time::Duration};
use switchyard_bus::{Message, Queue, Received};

/// A message's body and attributes, as a receiver sees them.
pub type Content = (String, BTreeMap<String, String>);

/// Longer than any test: what is received with this is seen once.
const HIDDEN: Duration = Duration::from_secs(600);

/// A body that changes if it is parsed and printed.
const ODD: &str = "{\"a\": 1.0,  \"é\": \"\u{1F600}\\u0000\"}";

/// A message with a text and a number for attributes.
fn message(body: &str) -> Message {
    Message::new(body.to_owned()).text("event_type", "feedback.created").number("version", 1)
}

/// A message of so many bytes, attributes included.
fn message_of(bytes: usize) -> Message {
    message(&"x".repeat(bytes - message("").size()))
}

/// What a receiver must see of such a message.
fn whole(message: &Message) -> Content {
    let attribute = |name: &str| Some((name.to_owned(), message.attribute(name)?.to_owned()));
    (message.body.clone(), ["event_type", "version"].into_iter().filter_map(attribute).collect())
}

fn contents(received: &[Received]) -> Vec<Content> {
    let mut all: Vec<Content> = received.iter().map(|one| (one.body.clone(), one.attributes.clone())).collect();
    all.sort();
    all
}

fn sorted<T: Ord>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.into_iter().collect();
    all.sort();
    all
}

/// Receives and hides messages until there are so many.
async fn receive_all(queue: &impl Queue, expected: usize) -> Vec<Received> {
    let mut all = Vec::new();
    crate::eventually(&format!("{expected} messages in the queue"), async || {
        let some = queue.receive(10, HIDDEN).await.expect("the queue answers");
        assert!(some.len() <= 10, "ten at most");
        all.extend(some);
        (all.len() >= expected).then_some(())
    })
    .await;
    assert_eq!(all.len(), expected, "no more than were sent");
    all
}
