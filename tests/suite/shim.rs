//! The shim, deployed: started by its schedule alone, and killed at the worst moment.

mod publishing;
mod sharing;
mod stress;
mod webhook;

use std::collections::BTreeSet;
use switchyard_event::Event;
use switchyard_tests::{World, eventually};
use uuid::Uuid;

#[tokio::test]
async fn the_schedule_alone_starts_it() {
    let world = World::at_rest().await;

    let post = world.post("Nobody woke the shim", "").await.to_string();

    world.event("sentiment.analyzed", &post).await;
}

#[tokio::test]
async fn killed_between_publish_and_delete_it_loses_nothing_and_no_effect_happens_twice() {
    let world = World::at_rest().await;
    let tap = world.tap().await;
    let shim = &world.outputs["ShimFunctionName"];
    // The shim may read and publish, and is kept from deleting. Its schedule may have started it already, so all are there at once.
    let held = "create function held() returns trigger language plpgsql as 'begin perform pg_advisory_xact_lock_shared(42); return old; end';
         create trigger held before delete on switchyard.outbox for each row execute function held();
         select pg_advisory_lock(42); begin";
    world.database.batch_execute(held).await.unwrap();
    let mut posts = BTreeSet::new();
    for number in 0..10 {
        posts.insert(world.post(&format!("I like number {number}"), "").await);
    }
    world.database.batch_execute("commit").await.unwrap();
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
    world.database.batch_execute("select pg_advisory_unlock(42)").await.unwrap();
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
