//! AWS's own, on LocalStack, as far as that goes: with the real template deployed where the test is about the stack.

use aws_sdk_sqs::types::QueueAttributeName;
use std::time::Duration;
use switchyard_bus::{
    Kind, LambdaDirectory, LambdaFunctions, LambdaMappings, Mappings, Message, Queue, Queues, SnsTopic, SqsMoves,
    SqsQueue, SqsQueues, TOPIC_BYTES, Topic, Visibility,
};
use switchyard_tests::{
    Account, Tap, World,
    contract::{
        Content, FunctionsRig, MovesRig, TopicRig, keeps_what_a_directory_promises, keeps_what_a_fifo_queue_promises,
        keeps_what_a_fifo_topic_promises, keeps_what_a_queue_promises, keeps_what_a_topic_promises,
        keeps_what_functions_promise, keeps_what_mappings_promise, keeps_what_moves_promise, keeps_what_queues_promise,
        returns_the_tenant_of_a_message,
    },
    eventually,
};

const HIDDEN: Duration = Duration::from_secs(600);

struct OnSns {
    topic: SnsTopic,
    tap: Tap,
}

impl TopicRig for OnSns {
    fn topic(&self) -> &impl Topic {
        &self.topic
    }
    async fn published(&self, expected: usize) -> Vec<Content> {
        self.tap.hear_whole(expected).await
    }
}

#[tokio::test]
async fn the_topic_on_sns_keeps_what_a_topic_promises() {
    let world = World::at_rest().await;
    let tap = world.tap().await;
    let topic = SnsTopic::new(&world.aws, world.outputs["TopicArn"].clone());
    keeps_what_a_topic_promises(OnSns { topic, tap }).await;
}

#[tokio::test]
async fn sns_itself_refuses_the_byte_that_we_refuse() {
    let account = Account::new().await;
    let topic = account.sns.create_topic().name("own").send().await.unwrap().topic_arn.unwrap();
    let publish = async |bytes: usize| {
        let entry = aws_sdk_sns::types::PublishBatchRequestEntry::builder().id("0").message("x".repeat(bytes));
        let call = account.sns.publish_batch().topic_arn(&topic);
        let call = call.publish_batch_request_entries(entry.build().unwrap());
        call.send().await.is_ok_and(|answer| answer.failed().is_empty())
    };
    assert!(publish(TOPIC_BYTES).await);
    assert!(!publish(TOPIC_BYTES + 1).await);
}

/// A queue of the test's own, which may be the dead-letter queue of another: its URL and ARN.
async fn own_queue(account: &Account, name: &str, dead_letter_arn: Option<&str>) -> (String, String) {
    let mut call = account.sqs.create_queue().queue_name(name);
    if Kind::of(name).is_fifo() {
        call = call.attributes(QueueAttributeName::FifoQueue, "true");
    }
    if let Some(arn) = dead_letter_arn {
        let policy = serde_json::json!({ "deadLetterTargetArn": arn, "maxReceiveCount": 200 });
        call = call.attributes(QueueAttributeName::RedrivePolicy, policy.to_string());
    }
    let url = call.send().await.unwrap().queue_url.unwrap();
    let asked = account.sqs.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::QueueArn);
    let arn = asked.send().await.unwrap().attributes.unwrap().remove(&QueueAttributeName::QueueArn);
    (url, arn.unwrap())
}

#[tokio::test]
async fn a_queue_on_sqs_keeps_what_a_queue_promises() {
    let account = Account::new().await;
    let (url, _) = own_queue(&account, "own", None).await;
    keeps_what_a_queue_promises(SqsQueue::new(&account.aws, url.clone())).await;

    let missing = SqsQueue::new(&account.aws, url.replace("/own", "/nobodys"));
    let error = missing.depth().await.unwrap_err();
    assert!(error.setup && !error.transient, "{error}");
    let refused = missing.send(&[Message::new("x".into())]).await.remove(0).unwrap_err();
    assert!(refused.setup && !refused.transient, "{refused}");
}

#[tokio::test]
async fn the_queues_on_sqs_keep_what_queues_promise() {
    let world = World::at_rest().await;
    let tap = world.tap().await;
    let dead = world.queue("SentimentDeadLetterQueue").await;
    let bodies: Vec<Message> = (0..12).map(|n| Message::new(n.to_string())).collect();
    assert_eq!(SqsQueue::new(&world.aws, tap.url.clone()).send(&bodies).await, vec![Ok(()); 12]);
    let handles = tap.receive_all(12).await;

    let queues = SqsQueues::new(&world.aws, tap.url.clone(), dead);
    let buried = keeps_what_queues_promise(&queues, handles).await;

    assert_eq!(world.dead_letters("Sentiment", buried.len()).await.len(), buried.len());
    let gone = Visibility { receipt_handle: "no such handle".into(), queue_arn: None, delay: Duration::ZERO };
    assert_eq!(queues.set_visibility(&[gone]).await, 1, "one that cannot be set is counted, not an error");
}

#[tokio::test]
async fn a_fair_queue_on_sqs_returns_the_tenant_of_a_message_and_a_topic_passes_it_on() {
    let account = Account::new().await;
    let (url, _) = own_queue(&account, "own", None).await;
    returns_the_tenant_of_a_message(SqsQueue::new(&account.aws, url)).await;

    let arn = account.sns.create_topic().name("own").send().await.unwrap().topic_arn.unwrap();
    let tap = account.tap(&arn).await;
    let topic = SnsTopic::new(&account.aws, arn);
    let message = Message::new("x".into()).of_tenant("project-7").in_group("g", "o");
    assert_eq!(topic.publish(&[message]).await, Ok(vec![Ok(())]));
    let heard = SqsQueue::new(&account.aws, tap.url.clone());
    let received = eventually("a message", async || heard.receive(1, HIDDEN).await.unwrap().pop()).await;
    assert_eq!(received.keys.tenant.as_deref(), Some("project-7"));
}

#[tokio::test]
async fn a_fifo_queue_and_topic_of_aws_keep_what_fifo_promises() {
    let account = Account::new().await;
    let (url, _) = own_queue(&account, "own.fifo", None).await;
    keeps_what_a_fifo_queue_promises(SqsQueue::new(&account.aws, url)).await;

    let made = account.sns.create_topic().name("own.fifo").attributes("FifoTopic", "true").send().await.unwrap();
    let arn = made.topic_arn.unwrap();
    let (heard, heard_arn) = own_queue(&account, "heard.fifo", None).await;
    let call = account.sns.subscribe().topic_arn(&arn).protocol("sqs").endpoint(heard_arn);
    call.attributes("RawMessageDelivery", "true").send().await.unwrap();
    let tap = Tap::on(&account.sqs, heard);
    keeps_what_a_fifo_topic_promises(OnSns { topic: SnsTopic::new(&account.aws, arn), tap }).await;
}

#[tokio::test]
async fn moves_on_sqs_keep_what_moves_promise() {
    let account = Account::new().await;
    let (dead_letter_url, dead_letter_arn) = own_queue(&account, "own-dead", None).await;
    let (queue_url, queue_arn) = own_queue(&account, "own", Some(&dead_letter_arn)).await;
    keeps_what_moves_promise(MovesRig {
        moves: SqsMoves::new(&account.aws),
        dead_letters: SqsQueue::new(&account.aws, dead_letter_url),
        no_queue_arn: dead_letter_arn.replace("own-dead", "nobodys"),
        dead_letter_arn,
        queue: SqsQueue::new(&account.aws, queue_url),
        queue_arn,
    })
    .await;
}

/// Who has a tagged queue in the template: the agents, and `ingest`, which is operated like one.
fn tagged(world: &World) -> Vec<&str> {
    world.servers.agents.iter().map(|agent| agent.name.as_str()).chain(["ingest"]).collect()
}

#[tokio::test]
async fn the_directory_of_a_deployed_stack_keeps_what_a_directory_promises() {
    let world = World::at_rest().await;
    let directory = LambdaDirectory::new(&world.aws, "switchyard".into());

    let places = keeps_what_a_directory_promises(&directory, &tagged(&world)).await;

    let sentiment = places.iter().find(|place| place.agent == "sentiment").unwrap();
    assert_eq!(sentiment.queue_url, world.queue("SentimentQueue").await);
    assert_eq!(sentiment.dead_letter_url, world.queue("SentimentDeadLetterQueue").await);
    let express = sentiment.express.as_ref().unwrap();
    assert_eq!((express.from, &express.queue_url), (8, &world.queue("SentimentExpressQueue").await));
    assert!(
        express.mapping != sentiment.mapping
            && express.queue_arn.ends_with(express.queue_url.rsplit('/').next().unwrap())
    );
    let duplicate = places.iter().find(|place| place.agent == "duplicate").unwrap();
    assert_eq!(duplicate.express, None, "it has asked for none");
    let undelivered = sentiment.subscription_dead_letter_url.clone().unwrap();
    assert!(undelivered.contains("/switchyard-SentimentSubscription"), "{undelivered}");
    assert!(SqsQueue::new(&world.aws, undelivered).depth().await.unwrap().is_empty(), "and it exists");
    let another = LambdaDirectory::new(&world.aws, "switch".into());
    keeps_what_a_directory_promises(&another, &[]).await;
}

#[tokio::test]
async fn a_queue_of_another_stack_or_without_a_tag_belongs_to_no_agent() {
    let world = World::at_rest().await;
    let directory = LambdaDirectory::new(&world.aws, "switchyard".into());
    let agents = tagged(&world);
    let first = keeps_what_a_directory_promises(&directory, &agents).await.remove(0);
    let call = world.sqs.tag_queue().queue_url(&first.queue_url);
    call.tags("aws:cloudformation:stack-name", "switchyard-two").send().await.unwrap();

    let others: Vec<&str> = agents.iter().copied().filter(|agent| *agent != first.agent).collect();
    keeps_what_a_directory_promises(&directory, &others).await;

    let call = world.sqs.untag_queue().queue_url(&first.queue_url);
    call.tag_keys("switchyard:agent").tag_keys("aws:cloudformation:stack-name").send().await.unwrap();
    keeps_what_a_directory_promises(&directory, &others).await;
}

#[tokio::test]
async fn the_mappings_of_lambda_keep_what_mappings_promise() {
    let world = World::at_rest().await;
    let mappings = LambdaMappings::new(&world.aws);
    let mapping = sentiment(&world).await.mapping;
    keeps_what_mappings_promise(&mappings, &mapping, "00000000-0000-4000-8000-000000000000").await;
}

#[tokio::test]
async fn a_mapping_that_is_off_feeds_no_function_until_it_is_on_again() {
    let world = World::at_rest().await;
    let mappings = LambdaMappings::new(&world.aws);
    let sentiment = sentiment(&world).await;
    mappings.set_enabled(&sentiment.mapping, false).await.unwrap();
    eventually("off", async || (!mappings.enabled(&sentiment.mapping).await.unwrap().may_feed()).then_some(())).await;
    let queue = SqsQueue::new(&world.aws, sentiment.queue_url);
    let sent = 30;
    let messages: Vec<Message> = (0..sent).map(|n| Message::new(n.to_string())).collect();
    assert_eq!(queue.send(&messages).await, vec![Ok(()); sent]);

    let mut handles = Vec::new();
    while handles.len() < sent {
        let received = queue.receive(10, HIDDEN).await.unwrap();
        assert!(!received.is_empty(), "somebody else took {} of {sent}", sent - handles.len());
        assert!(received.iter().all(|one| one.receives == 1), "nobody has seen it before");
        handles.extend(received.into_iter().map(|one| one.receipt_handle));
    }
    assert_eq!(queue.release(&handles).await, 0);
    mappings.set_enabled(&sentiment.mapping, true).await.unwrap();

    world.drained("Sentiment").await;
}

async fn sentiment(world: &World) -> switchyard_bus::AgentPlaces {
    let directory = LambdaDirectory::new(&world.aws, "switchyard".into());
    let places = switchyard_bus::Directory::places(&directory).await.unwrap();
    places.agents.into_iter().find(|place| place.agent == "sentiment").unwrap()
}

#[tokio::test]
async fn the_functions_of_lambda_keep_what_functions_promise() {
    let world = World::at_rest().await;
    keeps_what_functions_promise(FunctionsRig {
        functions: LambdaFunctions::new(&world.aws),
        function: &sentiment(&world).await.function,
        request: "{\"Records\": []}",
        answer: "{\"batchItemFailures\": []}",
        failing: "{\"Records\": 7}",
        nobody: "nobody",
    })
    .await;
}
