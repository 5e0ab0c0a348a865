//! The shim: order, partial failures, and dying at the worst moment.

use shim::{Carrier, Settings};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    time::Duration,
};
use switchyard_bus::{BusError, Message, Published, Refused, Topic};
use switchyard_event::Event;
use switchyard_store::Store;
use switchyard_tests::{Database, World, eventually};
use tokio::time::Instant;
use uuid::Uuid;

/// A topic that refuses every third entry the first time and fails every fifth call after having published it.
#[derive(Clone, Default)]
struct Moody {
    published: Rc<RefCell<Vec<Event>>>,
    refused: Rc<RefCell<BTreeSet<Uuid>>>,
    entries: Rc<Cell<usize>>,
    calls: Rc<Cell<usize>>,
}

impl Topic for Moody {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Published>, BusError> {
        self.calls.set(self.calls.get() + 1);
        let answers = messages.iter().map(|message| {
            let event = Event::parse(&message.body).unwrap();
            self.entries.set(self.entries.get() + 1);
            if self.entries.get().is_multiple_of(3) && self.refused.borrow_mut().insert(event.id) {
                return Err(Refused { code: "Throttled".into(), permanent: false });
            }
            self.published.borrow_mut().push(event);
            Ok(())
        });
        let answers = answers.collect();
        if self.calls.get().is_multiple_of(5) {
            return Err(BusError { operation: "PublishBatch", detail: "the answer was lost".into(), transient: true });
        }
        Ok(answers)
    }
}

#[tokio::test]
async fn events_of_one_aggregate_are_first_published_in_sequence_whatever_the_topic_refuses() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    let insert = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                  select gen_random_uuid(), 'counted', 'thing', ('00000000-0000-0000-0000-00000000000' || n % 5)::uuid, '{}', '{}', 1
                    from generate_series(1, 200) n";
    client.execute(insert, &[]).await.unwrap();
    let topic = Moody::default();

    let carried =
        carrier(database.store(), topic.clone()).carry(Instant::now() + Duration::from_secs(120)).await.unwrap();

    assert_eq!(carried.published, 200);
    assert!(carried.refused > 10, "{carried:?}");
    let mut seen = BTreeSet::new();
    let first: Vec<Event> = topic.published.take().into_iter().filter(|event| seen.insert(event.id)).collect();
    assert_eq!(first.len(), 200);
    for aggregate in 0..5 {
        let own = first.iter().filter(|event| event.aggregate_id.ends_with(&aggregate.to_string()));
        let own: Vec<_> = own.filter_map(|event| event.metadata.sequence).collect();
        assert!(own.len() == 40 && own.is_sorted(), "{own:?}");
    }
    let left: i64 = client.query_one("select count(*) from switchyard.outbox", &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_row_that_no_queue_could_carry_is_set_aside_and_holds_back_nothing() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    let insert = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                  select gen_random_uuid(), 'counted', 'thing', '00000000-0000-0000-0000-000000000001',
                         case n when 1 then to_jsonb(repeat('x', 300000)) when 2 then to_jsonb(repeat('x', 2000000)) else '{}' end,
                         case n when 3 then '{\"hops\": \"many\"}' else '{}' end::jsonb, 1
                    from generate_series(1, 5) n";
    client.execute(insert, &[]).await.unwrap();
    let topic = Moody::default();

    let carried =
        carrier(database.store(), topic.clone()).carry(Instant::now() + Duration::from_secs(120)).await.unwrap();

    assert_eq!((carried.published, carried.set_aside), (2, 3));
    let left = "select count(*) from switchyard.outbox where parked_at is not null";
    assert_eq!(client.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 3);
}

#[tokio::test]
async fn the_schedule_alone_starts_it() {
    let world = World::at_rest().await;

    let post = world.post("Nobody woke the shim", "").await.to_string();

    world.event("sentiment.analyzed", &post).await;
}

/// A shim that drains once and leaves.
fn carrier(store: Store, topic: Moody) -> Carrier<Moody> {
    let settings = Settings { topic_arn: String::new(), resident: Duration::ZERO, lanes: 4 };
    Carrier::new(store, topic, settings)
}

#[tokio::test]
async fn killed_between_publish_and_delete_it_loses_nothing_and_nothing_is_done_twice() {
    let world = World::at_rest().await;
    let tap = world.tap().await;
    let shim = &world.outputs["ShimFunctionName"];
    let mut posts = BTreeSet::new();
    for number in 0..10 {
        posts.insert(world.post(&format!("I like number {number}"), "").await);
    }
    // Held rows let the shim read and publish, and keep it from deleting.
    world.database.batch_execute("begin; select * from switchyard.outbox for update").await.unwrap();
    world.wake_shim();
    let created = |body: &str| body.contains("feedback.created");
    let first = ids(&tap.hear(10, created).await);
    let other = world.another_connection().await;
    eventually("the shim waiting to delete", async || {
        let waiting = "select count(*) from pg_stat_activity
                        where datname = current_database() and wait_event_type = 'Lock' and query like '%published%'";
        (other.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0).then_some(())
    })
    .await;

    // The schedule may have started a second one meanwhile, which waits for the lease.
    let pids = world.pids(shim);
    assert!(!pids.is_empty());
    pids.into_iter().for_each(kill);
    // The database would still finish what the dead process asked for.
    let orphans = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                    where datname = current_database() and query like '%published%' and pid <> pg_backend_pid()";
    assert!(other.query_one(orphans, &[]).await.unwrap().get::<_, i64>(0) > 0);
    world.database.batch_execute("rollback").await.unwrap();
    let pending = "select count(*) from switchyard.outbox o join switchyard.event_log e using (seq) where type = 'feedback.created'";
    assert_eq!(world.count(pending).await, 10, "nothing was deleted");
    world.wake_shim();

    let again = ids(&tap.hear(10, created).await);
    assert_eq!(first, again, "all of them are published again");
    world.settled().await;
    world.drained("Sentiment").await;
    assert_eq!(world.count("select count(*) from events where type = 'sentiment.analyzed'").await, 10);
    assert_eq!(
        world.count("select count(distinct aggregate_id) from events where type = 'sentiment.analyzed'").await,
        10
    );
    assert_eq!(world.count("select count(*) from sentiment_analysis").await, 10);
}

fn ids(bodies: &[String]) -> BTreeSet<Uuid> {
    bodies.iter().map(|body| Event::parse(body).unwrap().id).collect()
}

/// Ends a process as a crash does: at once, without a chance to say anything.
fn kill(pid: i32) {
    let killed = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
}
