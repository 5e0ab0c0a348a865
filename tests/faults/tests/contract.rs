//! The stand-in broker keeps every promise that the bus is held to on standard queues, by the same suite and with the same clients as LocalStack does.
//! FIFO and tenants it lacks, and says so.
#![allow(clippy::unwrap_used, reason = "a test may fail by a panic, in its helpers too")]

use aws_config::{BehaviorVersion, Region, SdkConfig};
use faults::broker::Broker;
use std::time::Duration;
use switchyard_bus::{LambdaDirectory, LambdaMappings, Message, Queue, SnsTopic, SqsMoves, SqsQueue, SqsQueues, Topic};
use switchyard_tests::contract::{
    Content, MovesRig, TopicRig, keeps_what_a_directory_promises, keeps_what_a_queue_promises,
    keeps_what_a_topic_promises, keeps_what_mappings_promise, keeps_what_moves_promise, keeps_what_queues_promise,
    lacks_fifo, lacks_tenants,
};

const HIDDEN: Duration = Duration::from_secs(600);

async fn broker() -> (Broker, SdkConfig) {
    let broker = Broker::start(0, 1.0).await.unwrap();
    broker.create_topic("lab-Topic");
    for agent in ["first", "second"] {
        broker.create_agent("lab", "lab-Topic", agent, &["feedback.created"], HIDDEN);
    }
    let credentials = aws_sdk_sqs::config::Credentials::new("test", "test", None, None, "tests");
    let settings = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(switchyard_bus::aws::https_client())
        .region(Region::new("us-east-1"))
        .endpoint_url(broker.endpoint())
        .credentials_provider(aws_sdk_sqs::config::SharedCredentialsProvider::new(credentials))
        .build();
    (broker, settings)
}

struct OnTheStandIn {
    topic: SnsTopic,
    ear: SqsQueue,
}

impl TopicRig for OnTheStandIn {
    fn topic(&self) -> &impl Topic {
        &self.topic
    }

    async fn published(&self, expected: usize) -> Vec<Content> {
        let mut heard = Vec::new();
        while heard.len() < expected {
            let received = self.ear.receive(10, HIDDEN).await.unwrap();
            let handles: Vec<String> = received.iter().map(|one| one.receipt_handle.clone()).collect();
            self.ear.delete(&handles).await;
            heard.extend(received.into_iter().map(|one| (one.body, one.attributes)));
        }
        heard
    }
}

#[tokio::test]
async fn its_topic_keeps_what_a_topic_promises() {
    let (broker, settings) = broker().await;
    let topic = SnsTopic::new(&settings, "arn:aws:sns:us-east-1:000000000000:lab-Topic".into());
    let ear = SqsQueue::new(&settings, broker.queue_url("lab-firstQueue"));
    keeps_what_a_topic_promises(OnTheStandIn { topic, ear }).await;
}

#[tokio::test]
async fn its_queues_keep_what_a_queue_promises_and_one_that_is_not_there_is_the_set_up_s_fault() {
    let (broker, settings) = broker().await;
    keeps_what_a_queue_promises(SqsQueue::new(&settings, broker.queue_url("lab-firstDeadLetterQueue"))).await;

    let missing = SqsQueue::new(&settings, broker.queue_url("nobodys"));
    let error = missing.depth().await.unwrap_err();
    assert!(error.setup && !error.transient, "{error}");
    let refused = missing.send(&[Message::new("x".into())]).await.remove(0).unwrap_err();
    assert!(refused.setup && !refused.transient, "{refused}");
}

#[tokio::test]
async fn it_has_neither_fifo_nor_tenants() {
    let (broker, settings) = broker().await;
    lacks_fifo(SqsQueue::new(&settings, broker.queue_url("lab-firstQueue.fifo"))).await;
    lacks_tenants(SqsQueue::new(&settings, broker.queue_url("lab-firstQueue"))).await;
}

#[tokio::test]
async fn an_agent_s_queues_keep_what_queues_promise() {
    let (broker, settings) = broker().await;
    let queue = SqsQueue::new(&settings, broker.queue_url("lab-firstQueue"));
    let bodies: Vec<Message> = (0..12).map(|n| Message::new(n.to_string())).collect();
    assert_eq!(queue.send(&bodies).await, vec![Ok(()); 12]);
    let mut handles = Vec::new();
    while handles.len() < 12 {
        handles.extend(queue.receive(10, HIDDEN).await.unwrap().into_iter().map(|one| one.receipt_handle));
    }
    let dead = broker.queue_url("lab-firstDeadLetterQueue");
    let queues = SqsQueues::new(&settings, broker.queue_url("lab-firstQueue"), dead);
    let buried = keeps_what_queues_promise(&queues, handles).await;
    assert_eq!(broker.depth("lab-firstDeadLetterQueue").visible, buried.len());
}

#[tokio::test]
async fn its_move_tasks_keep_what_moves_promise() {
    let (broker, settings) = broker().await;
    let arn = |name: &str| format!("arn:aws:sqs:us-east-1:000000000000:{name}");
    keeps_what_moves_promise(MovesRig {
        moves: SqsMoves::new(&settings),
        dead_letters: SqsQueue::new(&settings, broker.queue_url("lab-firstDeadLetterQueue")),
        dead_letter_arn: arn("lab-firstDeadLetterQueue"),
        queue: SqsQueue::new(&settings, broker.queue_url("lab-firstQueue")),
        queue_arn: arn("lab-firstQueue"),
        no_queue_arn: arn("nobodys"),
    })
    .await;
}

#[tokio::test]
async fn its_mappings_are_found_and_switched_as_lambda_s_are() {
    let (broker, settings) = broker().await;
    let directory = LambdaDirectory::new(&settings, "lab".into());
    let places = keeps_what_a_directory_promises(&directory, &["first", "second"]).await;
    assert_eq!(places[0].queue_url, broker.queue_url("lab-firstQueue"));
    keeps_what_a_directory_promises(&LambdaDirectory::new(&settings, "la".into()), &[]).await;

    let mappings = LambdaMappings::new(&settings);
    keeps_what_mappings_promise(&mappings, &places[0].mapping, "00000000-0000-4000-8000-000000000000").await;
}
