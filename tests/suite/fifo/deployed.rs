//! The real template with `Topology=fifo`, on LocalStack.

use crate::failures::REFUSE;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::json;
use switchyard_bus::{AgentPlaces, Directory, Kind, LambdaDirectory, LambdaMappings, Mappings};
use switchyard_tests::{World, eventually};

async fn places(world: &World) -> Vec<AgentPlaces> {
    LambdaDirectory::new(&world.aws, "switchyard".into()).places().await.unwrap().agents
}

async fn is_fifo(world: &World, url: &str) -> bool {
    let call = world.sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::FifoQueue);
    let attributes = call.send().await.unwrap().attributes.unwrap_or_default();
    Kind::of(url).is_fifo() && attributes.get(&QueueAttributeName::FifoQueue).is_some_and(|fifo| fifo == "true")
}

#[tokio::test]
async fn with_fifo_every_queue_is_fifo_and_there_are_no_express_queues() {
    let world = World::of_fifo().await;
    assert!(Kind::of(&world.outputs["TopicArn"]).is_fifo());
    let places = places(&world).await;
    assert_eq!(places.len(), world.servers.agents.len() + 1, "and ingest");
    for place in places.iter().filter(|place| place.agent != "ingest") {
        let urls = [Some(&place.queue_url), Some(&place.dead_letter_url), place.subscription_dead_letter_url.as_ref()];
        for url in urls.into_iter().flatten() {
            assert!(is_fifo(&world, url).await, "{url}");
        }
        assert_eq!(place.express, None, "{}", place.agent);
    }
}

/// Changes each of so many posts so often, and then starts the shim: aggregates whose events are on their way in batches.
async fn changed(world: &World, posts: i32, times: i32) {
    let project = uuid::Uuid::from_u128(7);
    let insert = "insert into posts (project_id, title) select $1, 'Post ' || n from generate_series(1, $2::int) n";
    world.database.execute(insert, &[&project, &posts]).await.unwrap();
    for time in 1..times {
        let update = "update posts set description = 'Changed ' || $1::int";
        world.database.execute(update, &[&time]).await.unwrap();
    }
    world.wake_shim();
}

/// How many deliveries of `sentiment` are in a state.
async fn in_state(world: &World, state: &str) -> i64 {
    let sql = format!(
        "select count(*) from switchyard.delivery d join switchyard.agent a on a.id = d.agent
          where a.name = 'sentiment' and d.state = '{state}'"
    );
    world.count(&sql).await
}

/// How often something was said of an older event of a post after it was said of a newer one.
const OUT_OF_ORDER: &str = "select count(*) from (
       select cause.seq, lag(cause.seq) over (partition by cause.aggregate_id order by said.seq) as before
         from events e
         join switchyard.event_log said on said.event_id = e.id
         join switchyard.event_log cause on cause.event_id = (e.metadata->>'causation_id')::uuid
        where e.type = 'sentiment.analyzed') pairs
      where before > seq";

#[tokio::test]
async fn every_event_of_an_aggregate_is_handled_in_its_order_and_none_is_superseded() {
    let world = World::of_fifo().await;
    changed(&world, 5, 8).await;
    world.settled().await;
    assert_eq!((in_state(&world, "d").await, in_state(&world, "s").await), (40, 0));
    assert_eq!(world.count(OUT_OF_ORDER).await, 0);
    let labels = world.count("select count(*) from sentiment_analysis").await;
    assert_eq!(labels, 5);
}

#[tokio::test]
async fn a_failed_event_delays_only_its_own_aggregate() {
    let world = World::of_fifo().await;
    world.database.batch_execute(REFUSE).await.unwrap();
    // As many attempts as it takes until this test has looked.
    world.database.batch_execute("update switchyard.agent set max_attempts = 100").await.unwrap();
    let refused = world.post("Refused", "words").await;
    let other = world.post("Fine", "words").await;
    for post in [refused, other] {
        world.database.execute("update posts set description = 'Changed' where id = $1", &[&post]).await.unwrap();
    }
    world.wake_shim();
    let emitted_by = async |post: uuid::Uuid| {
        let sql = "select count(*) from events where type = 'sentiment.analyzed' and aggregate_id = $1";
        world.database.query_one(sql, &[&post]).await.unwrap().get::<_, i64>(0)
    };
    eventually("the other goes on", async || (emitted_by(other).await == 2).then_some(())).await;
    eventually("it has failed", async || (in_state(&world, "f").await > 0).then_some(())).await;
    assert_eq!(emitted_by(refused).await, 0);

    world.database.batch_execute("drop trigger refuse on sentiment_analysis").await.unwrap();
    world.settled().await;
    assert_eq!((emitted_by(refused).await, in_state(&world, "d").await), (2, 4));
    assert_eq!(world.count(OUT_OF_ORDER).await, 0);
}

#[tokio::test]
async fn a_redrive_within_five_minutes_is_not_dropped_as_a_duplicate() {
    let world = World::of_fifo().await;
    world.steward_on_call().await;
    world.post("", "").await;
    world.wake_shim();
    let parked_in = async |epoch: i64| {
        let of_epoch = format!("select count(*) from switchyard.delivery where state = 'p' and epoch = {epoch}");
        eventually("it is parked, and its letter there", async || {
            let there = world.waiting("SentimentDeadLetterQueue").await;
            (there == 1 && world.count(&of_epoch).await == 1).then_some(())
        })
        .await;
    };
    parked_in(0).await;

    for epoch in 1..=2 {
        let request = json!({ "action": "redrive", "agent": "sentiment", "operator": "ada", "reason": "again" });
        let redriven = world.call("redrive", &request);
        assert_eq!((&redriven["way"], &redriven["sent"]), (&json!("table"), &json!(1)), "{redriven}");
        parked_in(epoch).await;
    }
    let failures = "select count(*) from switchyard.failure where reason = 'no_text' and parked";
    assert_eq!(world.count(failures).await, 3, "handled three times within five minutes");
}

#[tokio::test]
async fn what_was_lost_is_sent_again_within_five_minutes() {
    let world = World::of_fifo().await;
    let queue = world.queue("SentimentQueue").await;
    let mapping = places(&world).await.into_iter().find(|place| place.agent == "sentiment").unwrap().mapping;
    let mappings = LambdaMappings::new(&world.aws);
    mappings.set_enabled(&mapping, false).await.unwrap();
    eventually("off", async || (!mappings.enabled(&mapping).await.unwrap().may_feed()).then_some(())).await;
    let post = world.post("Lost", "words").await.to_string();
    world.wake_shim();
    eventually("it is in the queue", async || (world.waiting("SentimentQueue").await == 1).then_some(())).await;
    world.sqs.purge_queue().queue_url(&queue).send().await.unwrap();
    eventually("it is lost", async || (world.waiting("SentimentQueue").await == 0).then_some(())).await;
    mappings.set_enabled(&mapping, true).await.unwrap();
    world.store.set_grace("sentiment", 500).await.unwrap();

    eventually("the steward has sent it", async || {
        world.call("steward", &json!({}));
        (in_state(&world, "d").await == 1).then_some(())
    })
    .await;

    world.event("sentiment.analyzed", &post).await;
}
