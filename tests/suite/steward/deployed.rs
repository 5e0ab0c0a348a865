//! The deployed steward, beside the real queues and mappings.

use aws_sdk_sqs::types::Message;
use serde_json::{Value, json};
use switchyard_store::State;
use switchyard_tests::{World, eventually};

const AGENTS: [&str; 2] = ["Sentiment", "Duplicate"];

#[tokio::test]
async fn all_queues_wiped_in_the_middle_of_a_run_and_afterwards_everything_is_settled() {
    let world = World::new().await;
    let posts = 60;
    for number in 0..posts {
        world.post(&format!("I like number {number}"), "words").await;
        if number % 15 == 7 {
            wipe(&world).await;
        }
    }
    eventually("everything published", async || {
        (world.count("select count(*) from switchyard.outbox").await == 0).then_some(())
    })
    .await;
    wipe(&world).await;
    let lost = world.count(UNSETTLED).await;

    // What is missing counts as lost at once instead of after two minutes.
    for agent in ["sentiment", "duplicate"] {
        world.store.set_grace(agent, 500).await.unwrap();
    }
    let mut sent = 0;
    eventually("everything settled after the wipe", async || {
        let pass = pass(&world);
        sent += pass["agents"].as_array().unwrap().iter().map(|done| done["sent"].as_i64().unwrap()).sum::<i64>();
        (world.count("select count(*) from switchyard.outbox").await == 0 && world.count(UNSETTLED).await == 0)
            .then_some(())
    })
    .await;

    println!("{lost} deliveries were unsettled after the wipe; {sent} messages were sent again");
    world.settled().await;
    for agent in AGENTS {
        world.drained(agent).await;
    }
    assert_eq!(world.count("select count(*) from events where type = 'sentiment.analyzed'").await, posts);
    assert_eq!(world.count("select count(*) from sentiment_analysis").await, posts);
    assert_eq!(world.count("select count(*) from switchyard.delivery where state <> 'd'").await, 0);
    assert_eq!(world.count("select count(*) from switchyard.failure").await, 0);
}

#[tokio::test]
async fn its_schedule_alone_brings_back_what_was_lost() {
    let world = World::at_rest().await;
    world.store.set_grace("sentiment", 500).await.unwrap();
    let post = world.post("Nobody published this", "").await.to_string();
    world.database.batch_execute("delete from switchyard.outbox").await.unwrap();

    world.event("sentiment.analyzed", &post).await;
}

#[tokio::test]
async fn a_breaker_that_an_operator_opens_stops_its_agent_alone_until_it_is_closed() {
    let world = World::new().await;
    let set = |to: &str| {
        let answer =
            world.call("steward", &json!({ "action": "breaker", "agent": "sentiment", "set": to, "operator": "ada" }));
        assert_eq!(answer["agents"].as_array().map(Vec::len), Some(1), "{answer}");
        pass(&world)
    };
    let stopped = of(&set("open"), "sentiment");
    assert_eq!((&stopped["flows"], &stopped["paused_by"]), (&json!(false), &json!("steward")));

    let post = world.post("I like it", "").await.to_string();
    eventually("the other agent is done", async || {
        let done = "select count(*) from switchyard.delivery d join switchyard.agent a on a.id = d.agent where a.name = 'duplicate' and d.state = 'd'";
        (world.count(done).await == 1).then_some(())
    })
    .await;
    eventually("its message waits", async || (world.waiting("SentimentQueue").await == 1).then_some(())).await;
    assert_eq!(world.count("select count(*) from sentiment_analysis").await, 0);
    let status = world.call("steward", &json!({ "action": "status" }));
    let sentiment = of(&status, "sentiment");
    assert_eq!((&sentiment["breaker"]["state"], &sentiment["breaker"]["forced"]), (&json!("open"), &json!(true)));
    assert_eq!(sentiment["queue"]["waiting"], 1);
    assert_eq!(of(&status, "duplicate")["flows"], true);
    assert_eq!(of(&status, "ingest")["breaker"], Value::Null, "it looks after ingest too");

    let going = of(&set("closed"), "sentiment");
    assert_eq!((&going["flows"], &going["paused_by"]), (&json!(true), &Value::Null));
    world.event("sentiment.analyzed", &post).await;
    assert_eq!(world.count("select count(*) from switchyard.audit where by = 'ada'").await, 2);
}

#[tokio::test]
async fn a_message_past_max_receive_count_is_parked_with_a_reason() {
    let world = World::new().await;
    world.steward_on_call().await;
    world.call("steward", &json!({ "action": "breaker", "agent": "sentiment", "set": "open", "operator": "ada" }));
    pass(&world);
    let post = world.post("It kills", "").await.to_string();
    let (event, _) = world.event("feedback.created", &post).await;
    let queue = world.queue("SentimentQueue").await;
    let message = receive(&world, &queue).await;
    // What SQS does after a thousand receives: the message moves as it is.
    let dead_letters = world.queue("SentimentDeadLetterQueue").await;
    let body = message.body().unwrap();
    let copy = world
        .sqs
        .send_message()
        .queue_url(&dead_letters)
        .message_body(body)
        .set_message_attributes(message.message_attributes.clone());
    copy.send().await.unwrap();
    world
        .sqs
        .delete_message()
        .queue_url(&queue)
        .receipt_handle(message.receipt_handle().unwrap())
        .send()
        .await
        .unwrap();

    let died = of(&pass(&world), "sentiment");

    assert_eq!(died["died"], 1, "{died}");
    let dead_letter = world.dead_letters("Sentiment", 1).await.remove(0);
    let attributes = dead_letter.message_attributes.as_ref().unwrap();
    let text = |name: &str| attributes[name].string_value.clone().unwrap_or_default();
    assert_eq!((text("reason").as_str(), text("event_id")), ("process_died", event.to_string()));
    assert_eq!(world.waiting("SentimentDeadLetterQueue").await, 0, "one stands for the other");
    assert_eq!(world.store.settled("sentiment", &[(event, 0)]).await.unwrap(), [Some(State::Parked)]);
}

#[tokio::test]
async fn what_sns_could_not_deliver_reaches_its_agent() {
    let world = World::new().await;
    world.steward_on_call().await;
    let tap = world.tap().await;
    world.deaf("Sentiment").await;
    let post = world.post("Undelivered", "").await.to_string();
    let (body, attributes) = tap.hear_whole(1).await.remove(0);
    let undelivered = world.subscription_dead_letters("Sentiment").await;
    let mut message = world.sqs.send_message().queue_url(&undelivered).message_body(body);
    for (name, value) in attributes {
        let value = aws_sdk_sqs::types::MessageAttributeValue::builder()
            .data_type("String")
            .string_value(value)
            .build()
            .unwrap();
        message = message.message_attributes(name, value);
    }
    message.send().await.unwrap();

    assert_eq!(of(&pass(&world), "sentiment")["delivered"], 1);

    world.event("sentiment.analyzed", &post).await;
    assert_eq!(world.waiting_in(&undelivered).await, 0);
}

/// Deliveries that agents should have done and have not.
const UNSETTLED: &str = "select count(*) from switchyard.event_log e join switchyard.subscription s on s.type = e.type
    left join switchyard.delivery d on d.agent = s.agent and d.run = 0 and d.seq = e.seq where d.state is null or d.state::text in ('a', 'f')";

fn pass(world: &World) -> Value {
    let answer = world.call("steward", &json!({ "action": "pass" }));
    assert_eq!(answer["busy"], false, "{answer}");
    answer
}

/// An agent's part of an answer.
fn of(answer: &Value, agent: &str) -> Value {
    let agents = answer["agents"].as_array().expect("agents");
    agents.iter().find(|standing| standing["agent"] == agent).unwrap_or_else(|| panic!("{agent} in {answer}")).clone()
}

/// Empties every agent's queue.
async fn wipe(world: &World) {
    for agent in AGENTS {
        let url = world.queue(&format!("{agent}Queue")).await;
        world.sqs.purge_queue().queue_url(url).send().await.expect("purged");
    }
}

async fn receive(world: &World, queue: &str) -> Message {
    eventually("a message", async || {
        let received =
            world.sqs.receive_message().queue_url(queue).message_attribute_names("All").visibility_timeout(600);
        received.send().await.expect("the queue").messages.unwrap_or_default().pop()
    })
    .await
}
