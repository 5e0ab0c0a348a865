//! The ingress topic, for publishers without a database.

use serde_json::json;
use switchyard_bus::{DeadLetter, MemoryQueues, Message, Queues, Visibility};
use switchyard_runtime::Answer;
use switchyard_store::Store;
use switchyard_tests::{World, database::Database};
use tokio_postgres::Client;
use uuid::Uuid;

#[tokio::test]
async fn an_ingress_message_becomes_an_event_that_agents_handle() {
    let world = World::new().await;
    let post = quiet_post(&world).await;
    let id = Uuid::new_v4();
    let body = updated(id, post, "Checkout is great now");

    publish(&world, &body).await;

    let (analyzed, payload) = world.event("sentiment.analyzed", &post.to_string()).await;
    assert_eq!(payload["label"], "positive");
    let row = world
        .database
        .query_one(
            "select e.payload::text, e.metadata::text, c.metadata ->> 'causation_id', c.metadata ->> 'correlation_id'
               from events e, events c where e.id = $1 and c.id = $2",
            &[&id, &analyzed],
        )
        .await
        .unwrap();
    let stored: serde_json::Value = serde_json::from_str(row.get(0)).unwrap();
    let metadata: serde_json::Value = serde_json::from_str(row.get(1)).unwrap();
    assert_eq!(stored["title"], "Checkout is great now");
    assert_eq!((&metadata["mine"], metadata.get("sequence")), (&json!("kept"), None), "{metadata}");
    assert_eq!(
        (row.get::<_, Option<String>>(2), row.get::<_, Option<String>>(3)),
        (Some(id.to_string()), Some("c-1".into()))
    );
    world.settled().await;
}

#[tokio::test]
async fn a_duplicate_appends_nothing_and_the_same_id_with_other_content_is_parked() {
    let world = World::new().await;
    let post = quiet_post(&world).await;
    let id = Uuid::new_v4();
    for _ in 0..3 {
        publish(&world, &updated(id, post, "I like it")).await;
    }
    world.event("feedback.updated", &post.to_string()).await;
    world.drained("Ingest").await;

    publish(&world, &updated(id, post, "I hate it")).await;

    let dead_letters = world.dead_letters("Ingest", 1).await;
    assert_eq!(attributes(&dead_letters[0]), ("ingest".into(), "id_conflict".into(), Some(id.to_string())));
    assert_eq!(failures(&world.store).await, [("id_conflict".to_owned(), true)]);
    assert!(world.store.failures("ingest", 10).await.unwrap()[0].error.as_ref().unwrap().contains(&id.to_string()));
    let title: String =
        world.database.query_one("select payload ->> 'title' from events where id = $1", &[&id]).await.unwrap().get(0);
    assert_eq!(title, "I like it", "the row stays as it was");
    world.settled().await;
    assert_eq!(world.count("select count(*) from events where type = 'sentiment.analyzed'").await, 1);
}

#[tokio::test]
async fn what_is_no_event_or_is_refused_by_the_table_is_parked_and_takes_no_neighbour_with_it() {
    let world = World::new().await;
    let post = quiet_post(&world).await;
    let good = updated(Uuid::new_v4(), post, "Fine");
    let nul = updated(Uuid::new_v4(), post, "nul").replace("\"nul\"", r#""\u0000""#);
    let no_uuid = updated(Uuid::new_v4(), post, "Fine").replace(&post.to_string(), "no-uuid");
    let far = updated(Uuid::new_v4(), post, "Fine").replace("\"hops\":1", "\"hops\":99");

    for body in ["{ no event", &nul, &no_uuid, &far, &good] {
        publish(&world, body).await;
    }

    world.event("sentiment.analyzed", &post.to_string()).await;
    let dead_letters = world.dead_letters("Ingest", 4).await;
    let mut reasons: Vec<String> = dead_letters.iter().map(|letter| attributes(letter).1).collect();
    reasons.sort();
    assert_eq!(reasons, ["malformed", "malformed", "nul", "too_many_hops"]);
    let mut seen = failures(&world.store).await;
    seen.sort();
    let expected = ["malformed", "malformed", "nul", "too_many_hops"].map(|reason| (reason.to_owned(), true));
    assert_eq!(seen, expected, "each is a row that says why");
    world.drained("Ingest").await;
}

/// Batches past the queue, so that what is between them is known.
mod by_the_batch {
    use super::*;

    #[tokio::test]
    async fn one_poison_row_of_ten_refuses_only_itself_in_one_call() {
        let (side, store, _database) = database().await;
        let queues = MemoryQueues::default();
        let ingest = ingest::Ingest::new(store, queues.clone(), 16);
        let mut bodies: Vec<String> =
            (0..10).map(|n| updated(Uuid::new_v4(), Uuid::new_v4(), &n.to_string())).collect();
        bodies[4] = bodies[4].replace(r#""aggregate_id":""#, r#""aggregate_id":"x"#);

        let answers = ingest.take(batch(&bodies, 1)).await;

        assert_eq!(again(&answers), 0);
        assert_eq!(count(&side, "select count(*) from events").await, 9);
        let buried = queues.dead_letters();
        assert_eq!(buried.len(), 1);
        assert_eq!((buried[0].body.as_str(), buried[0].attribute("reason")), (bodies[4].as_str(), Some("malformed")));
    }

    #[tokio::test]
    async fn a_batch_that_comes_twice_is_appended_once() {
        let (side, store, _database) = database().await;
        let ingest = ingest::Ingest::new(store, MemoryQueues::default(), 16);
        let mut bodies: Vec<String> = (0..5).map(|n| updated(Uuid::new_v4(), Uuid::new_v4(), &n.to_string())).collect();
        bodies.push(bodies[0].clone());

        for receives in 1..=2 {
            assert_eq!(again(&ingest.take(batch(&bodies, receives)).await), 0);
        }

        assert_eq!(count(&side, "select count(*) from events").await, 5);
        assert_eq!(count(&side, "select count(*) from switchyard.failure").await, 0);
    }

    #[tokio::test]
    async fn while_the_database_is_down_everything_comes_again_later_each_time_and_nothing_is_parked() {
        let store = Store::open(&"postgres://nobody@127.0.0.1:1/none".parse().unwrap(), 1).unwrap();
        let queues = MemoryQueues::default();
        let ingest = ingest::Ingest::new(store, queues.clone(), 16);
        let bodies = [updated(Uuid::new_v4(), Uuid::new_v4(), "one"), "{ no event".to_owned()];

        for receives in [1, 5, 50] {
            assert_eq!(again(&ingest.take(batch(&bodies, receives)).await), 2);
        }
        // Alone, the bad one has no call to the table that would fail; the row of its failure does.
        assert_eq!(again(&ingest.take(batch(&bodies[1..], 1)).await), 1);

        assert!(queues.dead_letters().is_empty(), "an outage leaves no letters");
        let waits: Vec<u64> = queues.visibilities().iter().step_by(2).map(|hold| hold.delay.as_secs()).collect();
        assert!(waits[0] <= 2 && (16..=32).contains(&waits[1]) && (450..=900).contains(&waits[2]), "{waits:?}");
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_dead_lettered_comes_again_with_one_failure_row() {
        let (side, store, _database) = database().await;
        let ingest = ingest::Ingest::new(store, NoBurial, 16);
        for receives in 1..=3 {
            assert_eq!(again(&ingest.take(batch(&["{".to_owned()], receives)).await), 1);
        }
        assert_eq!(count(&side, "select count(*) from switchyard.failure where component = 'ingest'").await, 1);
    }

    /// A database with nothing in it: a look over its shoulder, a store on it, and itself, to be dropped last.
    async fn database() -> (Client, Store, Database) {
        let database = Database::migrated().await;
        (database.connect().await, database.store(), database)
    }

    async fn count(side: &Client, sql: &str) -> i64 {
        side.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Queues whose dead-letter queue takes nothing.
    struct NoBurial;

    impl Queues for NoBurial {
        async fn set_visibility(&self, _: &[Visibility]) -> usize {
            0
        }
        async fn dead_letter(&self, dead_letters: &[DeadLetter]) -> Vec<Result<(), switchyard_bus::BusError>> {
            let refused = |_: &Message| {
                Err(switchyard_bus::BusError {
                    operation: "SendMessageBatch",
                    detail: "no".into(),
                    transient: true,
                    setup: false,
                })
            };
            dead_letters.iter().map(refused).collect()
        }
    }

    fn batch(bodies: &[String], receives: u32) -> Vec<switchyard_runtime::Message> {
        let message = |(n, body): (usize, &String)| switchyard_runtime::Message {
            receives,
            ..switchyard_runtime::Message::new(format!("m{n}"), format!("r{n}"), body)
        };
        bodies.iter().enumerate().map(message).collect()
    }

    /// How many messages are delivered again.
    fn again(answers: &[Answer]) -> usize {
        answers.iter().filter(|answer| answer.is_redelivery()).count()
    }
}

/// The project of the world's posts.
const PROJECT: Uuid = Uuid::from_u128(7);

/// An event as it goes over the wire.
fn updated(id: Uuid, post: Uuid, title: &str) -> String {
    json!({
        "id": id, "type": "feedback.updated", "aggregate_type": "post", "aggregate_id": post, "version": 1, "payload": { "title": title },
        "metadata": { "timestamp": "2026-01-05T09:30:00Z", "correlation_id": "c-1", "hops": 1, "sequence": 42, "mine": "kept", "project_id": PROJECT },
    })
    .to_string()
}

async fn publish(world: &World, body: &str) {
    let topic = &world.outputs["IngressTopicArn"];
    world.sns.publish().topic_arn(topic).message(body).send().await.expect("the ingress topic takes any text");
}

/// A post that no event tells of.
async fn quiet_post(world: &World) -> Uuid {
    // Triggers do not fire in this role.
    world.database.batch_execute("begin; set local session_replication_role = replica").await.unwrap();
    let post = world.post("Checkout", "").await;
    world.database.batch_execute("commit").await.unwrap();
    assert_eq!(world.count("select count(*) from events").await, 0);
    post
}

/// Agent, reason and event of a letter.
fn attributes(letter: &aws_sdk_sqs::types::Message) -> (String, String, Option<String>) {
    let all = letter.message_attributes.as_ref().expect("attributes");
    let text = |name: &str| all.get(name).and_then(|value| value.string_value.clone());
    (text("agent").unwrap_or_default(), text("reason").unwrap_or_default(), text("event_id"))
}

/// Reasons of the failures that ingest has left, and whether they are parked.
async fn failures(store: &Store) -> Vec<(String, bool)> {
    store.failures("ingest", 100).await.unwrap().into_iter().map(|failure| (failure.reason, failure.parked)).collect()
}
