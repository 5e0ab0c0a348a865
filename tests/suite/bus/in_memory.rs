//! The implementations in memory.

use std::{collections::BTreeMap, time::Duration};
use switchyard_bus::{
    AgentPlaces, MemoryDirectory, MemoryFunctions, MemoryMappings, MemoryMoves, MemoryQueue, MemoryQueues, MemoryTopic,
    Message, Queue, Queues, Topic,
};
use switchyard_tests::contract::{
    Content, FunctionsRig, MovesRig, TopicRig, keeps_what_a_directory_promises, keeps_what_a_fifo_queue_promises,
    keeps_what_a_fifo_topic_promises, keeps_what_a_queue_promises, keeps_what_a_topic_promises,
    keeps_what_functions_promise, keeps_what_mappings_promise, keeps_what_moves_promise, keeps_what_queues_promise,
    returns_the_tenant_of_a_message,
};

#[derive(Default)]
struct InMemory {
    topic: MemoryTopic,
    heard: std::cell::Cell<usize>,
}

impl TopicRig for InMemory {
    fn topic(&self) -> &impl Topic {
        &self.topic
    }
    async fn published(&self, _: usize) -> Vec<Content> {
        let published = self.topic.published();
        let before = self.heard.replace(published.len());
        published[before..].iter().map(|message| (message.body.clone(), attributes(message))).collect()
    }
}

fn attributes(message: &Message) -> BTreeMap<String, String> {
    let names = ["event_type", "version"];
    names.iter().filter_map(|name| Some(((*name).to_owned(), message.attribute(name)?.to_owned()))).collect()
}

#[tokio::test]
async fn the_topic_in_memory_keeps_what_a_topic_promises() {
    keeps_what_a_topic_promises(InMemory::default()).await;
}

#[tokio::test]
async fn the_queue_in_memory_keeps_what_a_queue_promises() {
    keeps_what_a_queue_promises(MemoryQueue::default()).await;
}

#[tokio::test]
async fn a_fair_queue_in_memory_returns_the_tenant_of_a_message() {
    returns_the_tenant_of_a_message(MemoryQueue::default()).await;
}

#[tokio::test]
async fn a_fifo_queue_and_topic_in_memory_keep_what_fifo_promises() {
    keeps_what_a_fifo_queue_promises(MemoryQueue::fifo()).await;
    keeps_what_a_fifo_topic_promises(InMemory { topic: MemoryTopic::fifo(), ..InMemory::default() }).await;
}

#[tokio::test]
async fn a_fifo_queue_in_memory_forgets_a_deduplication_id_after_five_minutes() {
    let queue = MemoryQueue::fifo();
    let message = [Message::new("x".into()).in_group("g", "o")];
    for (pass, there) in [(0, 1), (299, 1), (1, 2)] {
        queue.pass(Duration::from_secs(pass));
        assert_eq!(queue.send(&message).await, [Ok(())]);
        assert_eq!(queue.messages().len(), there, "{pass} seconds later");
    }
}

#[tokio::test]
async fn the_time_of_a_queue_in_memory_passes_when_a_test_says_so() {
    let queue = MemoryQueue::default();
    queue.send(&[Message::new("x".into())]).await[0].as_ref().unwrap();
    let visibility = Duration::from_millis(29_001);
    let first = queue.receive(1, visibility).await.unwrap().remove(0);
    queue.pass(Duration::from_millis(29_999));
    assert_eq!(queue.receive(1, visibility).await.unwrap(), [], "a visibility timeout is whole seconds, rounded up");
    queue.pass(Duration::from_millis(1));
    assert_eq!(queue.receive(1, visibility).await.unwrap()[0].receives, 2);
    assert_eq!(queue.release(&[first.receipt_handle]).await, 1, "an older handle releases no message");
}

#[tokio::test]
async fn the_queues_in_memory_keep_what_queues_promise() {
    let queues = MemoryQueues::default();
    let dead_letters = keeps_what_queues_promise(&queues, vec!["one".into(), "two".into()]).await;
    assert_eq!((queues.dead_letters(), queues.visibilities().len()), (dead_letters, 2));
}

#[tokio::test]
async fn the_fifo_queues_in_memory_take_a_dead_letter_with_keys_and_no_other() {
    let message = Message::new("x".into());
    assert!(MemoryQueues::fifo().dead_letter(std::slice::from_ref(&message)).await[0].is_err(), "without keys");
    assert_eq!(MemoryQueues::fifo().dead_letter(&[message.in_group("g", "o")]).await, [Ok(())]);
}

#[tokio::test]
async fn the_moves_in_memory_keep_what_moves_promise() {
    let (dead_letters, queue) = (MemoryQueue::default(), MemoryQueue::default());
    let arn = |name: &str| format!("arn:aws:sqs:eu-west-1:000000000000:{name}");
    keeps_what_moves_promise(MovesRig {
        moves: MemoryMoves::default().dead_letters(arn("dead"), &dead_letters).queue(arn("queue"), &queue),
        dead_letters,
        dead_letter_arn: arn("dead"),
        queue,
        queue_arn: arn("queue"),
        no_queue_arn: arn("none"),
    })
    .await;
}

#[tokio::test]
async fn the_mappings_in_memory_keep_what_mappings_promise() {
    keeps_what_mappings_promise(&MemoryMappings::of(["a-mapping"]), "a-mapping", "another").await;
}

#[tokio::test]
async fn the_directory_in_memory_keeps_what_a_directory_promises() {
    let place = |agent: &str| AgentPlaces {
        agent: agent.into(),
        queue_url: format!("http://sqs/{agent}"),
        queue_arn: format!("arn:aws:sqs:eu-west-1:000000000000:{agent}"),
        dead_letter_url: format!("http://sqs/{agent}-dead"),
        dead_letter_arn: format!("arn:aws:sqs:eu-west-1:000000000000:{agent}-dead"),
        subscription_dead_letter_url: (agent == "sentiment").then(|| "http://sqs/sentiment-undelivered".into()),
        function: format!("arn:aws:lambda:eu-west-1:000000000000:function:{agent}"),
        mapping: format!("{agent}-mapping"),
        express: None,
    };
    let directory = MemoryDirectory::of(["themes", "sentiment"].map(place).to_vec());
    keeps_what_a_directory_promises(&directory, &["sentiment", "themes"]).await;
    keeps_what_a_directory_promises(&MemoryDirectory::default(), &[]).await;
}

#[tokio::test]
async fn the_functions_in_memory_keep_what_functions_promise() {
    let answer = |request: &str| match request {
        "1" => Ok("{\"one\": 1}".to_owned()),
        other => Err(format!("{other} is not 1")),
    };
    keeps_what_functions_promise(FunctionsRig {
        functions: MemoryFunctions::default().with("redrive", answer),
        function: "redrive",
        request: "1",
        answer: "{\"one\":1}",
        failing: "2",
        nobody: "nobody",
    })
    .await;
}
