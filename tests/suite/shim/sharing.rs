//! Several shims at once: which one publishes what, and which one ends for another.

use super::publishing::{HOT, LEFT, OWN, insert, number, sweeping};
use shim::{Publisher, Report, Settings, Times, Woken};
use std::{collections::BTreeSet, time::Duration};
use switchyard_bus::{MemoryTopic, Message};
use switchyard_event::Event;
use switchyard_store::{Shards, Sharer};
use switchyard_tests::{Database, eventually};
use tokio::time::Instant;
use uuid::Uuid;

/// Longer than any test.
fn long() -> Instant {
    Instant::now() + Duration::from_secs(188)
}

fn resident(shims: u16) -> Settings {
    Settings { resident: Duration::from_secs(120), shims, ..sweeping() }
}

fn ids(messages: &[Message]) -> BTreeSet<Uuid> {
    messages.iter().map(|message| Event::parse(&message.body).unwrap().id).collect()
}

#[tokio::test]
async fn a_resident_shim_ends_for_the_next_one_and_nothing_is_published_twice() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    let topic = MemoryTopic::default();
    let (old, new) = (
        Publisher::new(database.store(), topic.clone(), resident(1)),
        Publisher::new(database.store(), topic.clone(), resident(1)),
    );
    insert(&client, 300, OWN, "'{}'").await;
    insert(&client, 300, HOT, "'{}'").await;

    let replaced = async {
        eventually("the old one at work", async || (topic.published().len() > 100).then_some(())).await;
        tokio::select! {
            ended = new.publish(long()) => panic!("the newest stays: {ended:?}"),
            report = eventually("the new one alone", async || {
                insert(&client, 1, OWN, "'{}'").await;
                let alone = "select count(*) from switchyard.participant";
                let held = "select count(distinct holder) from switchyard.lease";
                (number(&client, alone).await == 1 && number(&client, held).await == 1 && number(&client, LEFT).await == 0).then_some(())
            }) => report,
        }
    };
    let (report, ()) = tokio::join!(old.publish(long()), replaced);

    assert!(report.unwrap().published > 100);
    let published = topic.published();
    assert_eq!(published.len(), ids(&published).len(), "nothing twice");
}

#[tokio::test]
async fn the_shards_of_a_shim_that_died_are_taken_over_within_its_lease() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    let dead = Sharer { name: "shim", holder: Uuid::new_v4(), at_once: 2, lasts_ms: 1_500 };
    let began = Instant::now();
    assert_eq!(database.store().share(&dead, Shards::NONE).await.unwrap().held, Shards::ALL);
    insert(&client, 50, OWN, "'{}'").await;
    let topic = MemoryTopic::default();
    let publisher = Publisher::new(database.store(), topic.clone(), resident(2));

    tokio::select! {
        ended = publisher.publish(long()) => panic!("a resident shim stays: {ended:?}"),
        () = eventually("everything published", async || (number(&client, LEFT).await == 0).then_some(())) => {}
    }

    assert!(began.elapsed() > Duration::from_secs(1), "not while the lease lasted");
    assert_eq!(topic.published().len(), 50);
}

#[tokio::test]
async fn woken_while_no_shim_runs_it_publishes_what_is_pending_and_ends() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    insert(&client, 30, OWN, "'{}'").await;
    let publisher = Publisher::new(database.store(), MemoryTopic::default(), resident(1));

    let woken = publisher.wake(long()).await.unwrap();

    assert_eq!(woken, Woken::Published(Report { published: 30, ..Report::default() }));
    assert_eq!(number(&client, "select count(*) from switchyard.lease where holder is not null").await, 0);
}

#[tokio::test]
async fn woken_while_a_shim_runs_it_leaves_the_work_to_it() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    let topic = MemoryTopic::default();
    let resident = Publisher::new(database.store(), topic.clone(), resident(1));
    let woken = Publisher::new(database.store(), topic.clone(), sweeping());

    tokio::select! {
        ended = resident.publish(long()) => panic!("a resident shim stays: {ended:?}"),
        () = async {
            let holds = "select count(*) from switchyard.lease where holder is not null";
            eventually("the resident at work", async || (number(&client, holds).await == 16).then_some(())).await;
            insert(&client, 1, OWN, "'{}'").await;
            assert_eq!(woken.wake(long()).await.unwrap(), Woken::Running);
            eventually("the event published", async || (topic.published().len() == 1).then_some(())).await;
        } => {}
    }
}

#[tokio::test]
async fn several_share_the_work_and_each_publishes_some_of_it() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    let times = Times { ask: Duration::from_millis(20), renew: Duration::from_millis(300), ..Times::default() };
    let settings = Settings { times, ..resident(3) };
    let topics = [(); 3].map(|()| MemoryTopic::default());
    let [one, two, three] =
        [0, 1, 2].map(|n: usize| Publisher::new(database.store(), topics[n].clone(), settings.clone()));

    let shared = async {
        let even = "select count(*) from (select from switchyard.lease where holder is not null group by holder having count(*) in (5, 6)) x";
        eventually("three with an even share", async || (number(&client, even).await == 3).then_some(())).await;
        insert(&client, 300, OWN, "'{}'").await;
        eventually("everything published", async || (number(&client, LEFT).await == 0).then_some(())).await;
    };
    tokio::select! {
        _ = async { tokio::join!(one.publish(long()), two.publish(long()), three.publish(long())) } => panic!("all of them stay"),
        () = shared => {}
    }

    let each: Vec<usize> = topics.iter().map(|topic| topic.published().len()).collect();
    assert!(each.iter().sum::<usize>() == 300 && each.iter().all(|n| *n > 30), "{each:?}");
}
