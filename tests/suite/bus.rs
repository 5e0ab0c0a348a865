//! One suite for every topic and every pair of queues: what the traits promise, the real ones and the ones in memory keep.

use std::{collections::BTreeMap, time::Duration};
use switchyard_bus::{Hold, MemoryQueues, MemoryTopic, Message, Queues, SnsTopic, SqsQueues, TOPIC_BYTES, Topic};
use switchyard_tests::{Tap, World};

/// A body and its attributes, as a receiver sees them.
type Heard = (String, BTreeMap<String, String>);

/// A topic and an ear on it.
trait TopicRig {
    fn topic(&self) -> &impl Topic;
    async fn heard(&self, expected: usize) -> Vec<Heard>;
}

struct InMemory(MemoryTopic);
struct OnSns {
    topic: SnsTopic,
    tap: Tap,
}

impl TopicRig for InMemory {
    fn topic(&self) -> &impl Topic {
        &self.0
    }
    async fn heard(&self, _: usize) -> Vec<Heard> {
        self.0.published().iter().map(|message| (message.body.clone(), attributes(message))).collect()
    }
}

impl TopicRig for OnSns {
    fn topic(&self) -> &impl Topic {
        &self.topic
    }
    async fn heard(&self, expected: usize) -> Vec<Heard> {
        self.tap.hear_whole(expected).await
    }
}

const NAMES: [&str; 2] = ["event_type", "version"];

fn attributes(message: &Message) -> BTreeMap<String, String> {
    NAMES.iter().filter_map(|name| Some(((*name).to_owned(), message.attribute(name)?.to_owned()))).collect()
}

fn message(body: &str) -> Message {
    Message::new(body.to_owned()).text("event_type", "feedback.created").number("version", 1)
}

/// The contract of [`Topic`].
async fn keeps_what_a_topic_promises(rig: impl TopicRig) {
    let odd = "{\"a\": 1.0,  \"é\": \"\u{1F600}\\u0000\"}";
    let bodies: Vec<String> = (0..9).map(|n| format!("{{\"n\": {n}}}")).chain([odd.to_owned()]).collect();
    let messages: Vec<Message> = bodies.iter().map(|body| message(body)).collect();

    let answers = rig.topic().publish(&messages).await.unwrap();
    assert_eq!(answers, vec![Ok(()); 10], "one answer for each message");
    let mut heard = rig.heard(10).await;
    heard.sort();
    let mut expected: Vec<Heard> = messages.iter().map(|message| (message.body.clone(), attributes(message))).collect();
    expected.sort();
    assert_eq!(heard, expected, "bodies and attributes arrive as they are");

    for impossible in [vec![], vec![message("x"); 11], vec![message(&"x".repeat(TOPIC_BYTES))]] {
        let refused = rig.topic().publish(&impossible).await.unwrap_err();
        assert!(!refused.transient, "the same call cannot succeed later: {refused}");
    }
    let fits = TOPIC_BYTES - message("").size();
    assert!(rig.topic().publish(&[message(&"x".repeat(fits))]).await.unwrap()[0].is_ok(), "the last byte fits");
}

#[tokio::test]
async fn the_topic_in_memory_keeps_what_a_topic_promises() {
    keeps_what_a_topic_promises(InMemory(MemoryTopic::default())).await;
}

#[tokio::test]
async fn the_topic_on_sns_keeps_what_a_topic_promises() {
    let world = World::at_rest().await;
    let tap = world.tap().await;
    let topic = SnsTopic::new(&world.aws, world.outputs["TopicArn"].clone());
    keeps_what_a_topic_promises(OnSns { topic, tap }).await;
}

/// The contract of [`Queues`]: more than one call's worth is split, and the answers keep the order. Returns how many were buried.
async fn keeps_what_queues_promise(queues: impl Queues, handles: Vec<String>) -> usize {
    let letters: Vec<Message> = (0..23).map(|n| message(&format!("{n}")).text("reason", "test")).collect();
    let buried = queues.bury(&letters).await;
    assert_eq!(buried.len(), letters.len());
    assert!(buried.iter().all(Result::is_ok), "{buried:?}");
    assert!(queues.bury(&[]).await.is_empty());

    let holds: Vec<Hold> =
        handles.into_iter().map(|receipt_handle| Hold { receipt_handle, delay: Duration::from_secs(600) }).collect();
    assert_eq!(queues.hold(&holds).await, 0, "all are held");
    letters.len()
}

#[tokio::test]
async fn the_queues_in_memory_keep_what_queues_promise() {
    let queues = MemoryQueues::default();
    let buried = keeps_what_queues_promise(queues.clone(), vec!["one".into(), "two".into()]).await;
    assert_eq!((queues.buried().len(), queues.held().len()), (buried, 2));
}

#[tokio::test]
async fn the_queues_on_sqs_keep_what_queues_promise() {
    let world = World::at_rest().await;
    let tap = world.tap().await;
    let dead = world.queue("SentimentDeadLetterQueue").await;
    for n in 0..12 {
        world.sqs.send_message().queue_url(&tap.url).message_body(n.to_string()).send().await.unwrap();
    }
    let handles = tap.receive_all(12).await;

    let queues = SqsQueues::new(&world.aws, tap.url.clone(), dead);
    let buried = keeps_what_queues_promise(queues.clone(), handles).await;

    assert_eq!(world.dead_letters("Sentiment", buried).await.len(), buried);
    let gone = Hold { receipt_handle: "no such handle".into(), delay: Duration::ZERO };
    assert_eq!(queues.hold(&[gone]).await, 1, "one that cannot be held is counted, not an error");
}
