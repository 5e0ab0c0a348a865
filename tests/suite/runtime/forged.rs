//! Messages that were not made from the table, and events whose id somebody took before.

use super::world::{PLENTY, RuntimeWorld, again, delivered, orders, published};
use sentiment::Sentiment;
use switchyard_agent::{Agent as _, Declaration};
use switchyard_event::{Event, NewEvent};
use switchyard_feedback::SENTIMENT_ANALYZED;
use switchyard_runtime::{Budget, Worker};
use switchyard_store::{Mode, Since};
use tokio::time::Instant;
use uuid::Uuid;

#[tokio::test]
async fn a_body_that_is_not_the_event_s_is_parked_alone_and_the_event_is_handled() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let real = world.give(&orders([("apply", "work")])).await.remove(0);
    let other = world.give(&orders([("apply", "retry")])).await.remove(0);
    let changed = real.replace("work", "hurt");
    let (unsealed, _) = real.split_once(",\"seal\"").unwrap();
    let (_, seal_of_another) = other.split_once(",\"seal\"").unwrap();
    let forged = [changed, format!("{unsealed}}}"), format!("{unsealed},\"seal\"{seal_of_another}")];

    assert!(world.handle(&forged, PLENTY).await.is_empty());
    assert_eq!(world.states().await, "", "no delivery was touched");
    // In one batch with the real one, before and after it.
    assert!(world.handle(&[forged[0].clone(), real, forged[1].clone()], PLENTY).await.is_empty());

    assert_eq!((world.states().await.as_str(), world.count("done").await), ("d", 1));
    assert_eq!(world.reasons(), ["forged"; 5]);
    assert!(world.queues.dead_letters().iter().all(|letter| letter.attribute("message_id").is_some()));
    let row =
        "switchyard.failure where reason = 'forged' and event_id is null and message_id is not null and unmatched";
    assert_eq!(world.count(row).await, 3, "one for each message id");
}

#[tokio::test]
async fn a_row_that_is_changed_or_deleted_after_it_was_published_is_handled_from_its_message() {
    let world = RuntimeWorld::new(Mode::Full).await;
    world.give(&orders([("apply", "first"), ("apply", "second")])).await;
    world.client.batch_execute("update events set payload = payload || '{\"key\": \"before\"}'").await.unwrap();
    let messages = published(&world.store).await;
    world
        .client
        .batch_execute(
            "update events set payload = payload || '{\"key\": \"after\"}' where payload ->> 'apply' = 'first'",
        )
        .await
        .unwrap();
    world.client.batch_execute("delete from events where payload ->> 'apply' = 'second'").await.unwrap();

    assert!(again(world.worker().handle(delivered(&messages), Instant::now() + PLENTY).await).is_empty());

    assert_eq!((world.states().await.as_str(), world.reasons().len()), ("dd", 0));
    assert_eq!(world.count("done where key = 'before'").await, 2);
}

#[tokio::test]
async fn an_agent_whose_own_event_somebody_inserted_first_is_parked_as_forged() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let declared = serde_json::to_value(Declaration::of::<Sentiment>()).unwrap();
    world.store.register(&serde_json::from_value(declared).unwrap(), Mode::Full, Since::Now).await.unwrap();
    world.client.batch_execute(switchyard_feedback::TABLES).await.unwrap();
    world.client.batch_execute("select switchyard.install_triggers()").await.unwrap();
    let insert = "insert into posts (project_id, title) values ($1, 'I hate this slow export')";
    world.client.execute(insert, &[&Uuid::from_u128(7)]).await.unwrap();
    let messages = published(&world.store).await;
    let event = Event::parse(&messages[0].body).unwrap();
    let id = NewEvent::new(SENTIMENT_ANALYZED, "post", "p", &()).unwrap().caused_by(&event, Sentiment::NAME, 0, 0).id;
    let forge = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
        values ($1, 'sentiment.analyzed', 'post', gen_random_uuid(), '{\"label\": \"positive\"}', $2::text::jsonb, 1)";
    world.client.execute(forge, &[&id, &"7"]).await.unwrap();
    let worker = || Worker::new(&Sentiment, &world.store, &world.queues, Budget::DEFAULT);

    assert!(again(worker().handle(delivered(&messages), Instant::now() + PLENTY).await).is_empty());

    assert_eq!((world.reasons(), world.states().await), (vec!["forged".to_owned()], "p".to_owned()));
    assert_eq!(world.count("sentiment_analysis").await, 0);
}
