//! Effects happen once, and each agent goes its own way.

use switchyard_event::Event;
use switchyard_tests::{World, eventually};

/// Counts every write to the agent's table, where no constraint could hide a second one.
const COUNT_WRITES: &str = "
    create table written (post_id uuid);
    create function count_write() returns trigger language plpgsql as
        'begin insert into written values (new.post_id); return null; end';
    create trigger count_write after insert or update on sentiment_analysis for each row execute function count_write();";

#[tokio::test]
async fn the_same_event_delivered_three_times_has_one_effect() {
    let world = World::new().await;
    world.database.batch_execute(COUNT_WRITES).await.unwrap();
    let tap = world.tap().await;
    world.post("I love the new editor", "").await;
    let body = tap.hear(1, |body| body.contains("feedback.created")).await.remove(0);

    for _ in 0..2 {
        world.send("Sentiment", &body).await;
    }

    world.settled().await;
    world.drained("Sentiment").await;
    assert_eq!(world.count("select count(*) from written").await, 1);
    assert_eq!(world.count("select count(*) from events where type = 'sentiment.analyzed'").await, 1);
}

#[tokio::test]
async fn one_event_is_handled_by_several_agents_at_the_same_time() {
    let world = World::new().await;
    world.post("Export drops the last row", "CSV only").await;
    world.settled().await;

    // The agent that stores duplicates has to wait; the other agent does not.
    world.database.batch_execute("begin; lock table feedback_duplicates in access exclusive mode").await.unwrap();
    let again = world.post_from_elsewhere("The export drops the last row", "CSV only").await.to_string();
    let other = world.another_connection().await;
    let state = async |agent: &str| {
        let sql = "select d.state::text from switchyard.delivery d
                     join switchyard.agent a on a.id = d.agent join switchyard.event_log e on e.seq = d.seq
                    where a.name = $1 and e.type = 'feedback.created' and e.aggregate_id = $2";
        other.query_opt(sql, &[&agent, &again]).await.unwrap().map(|row| row.get::<_, String>(0))
    };
    eventually("sentiment done", async || (state("sentiment").await? == "d").then_some(())).await;
    eventually("duplicate waiting for the lock", async || {
        let waiting = "select count(*) from pg_locks where not granted and relation = 'feedback_duplicates'::regclass";
        let row = other.query_one(waiting, &[]).await.unwrap();
        (row.get::<_, i64>(0) == 1).then_some(())
    })
    .await;
    assert_ne!(state("duplicate").await.as_deref(), Some("d"));
    world.database.batch_execute("rollback").await.unwrap();

    let (_, found) = world.event("duplicate.found", &again).await;
    assert!(found["similarity"].as_f64().unwrap() > 0.6);
    world.settled().await;
}

#[tokio::test]
async fn an_older_event_never_overwrites_what_a_newer_one_wrote() {
    let world = World::at_rest().await;
    let tap = world.tap().await;
    // The first event is removed from the queue before an agent receives it; the second arrives and is stored.
    world.database.batch_execute("begin").await.unwrap();
    let post = world.post("I hate this", "").await;
    world.database.execute("update posts set title = 'I love this' where id = $1", &[&post]).await.unwrap();
    world.database.batch_execute("create table kept as select * from switchyard.outbox order by seq limit 1; delete from switchyard.outbox where seq in (select seq from kept); commit").await.unwrap();
    world.wake_shim();
    eventually("the newer one written down", async || {
        (world.count("select count(*) from sentiment_analysis where label = 'positive'").await == 1).then_some(())
    })
    .await;

    world.database.batch_execute("insert into switchyard.outbox select * from kept").await.unwrap();

    let late = tap.hear(1, |body| body.contains("feedback.created")).await.remove(0);
    let late = Event::parse(&late).unwrap().id;
    eventually("the late one settled as superseded", async || {
        let sql = "select d.state::text from switchyard.delivery d join switchyard.event_log e on e.seq = d.seq
                    join switchyard.agent a on a.id = d.agent where e.event_id = $1 and a.name = 'sentiment'";
        let state: String = world.database.query_opt(sql, &[&late]).await.unwrap()?.get(0);
        (state == "s").then_some(())
    })
    .await;
    assert_eq!(world.count("select count(*) from sentiment_analysis where label = 'positive'").await, 1);
}

#[tokio::test]
async fn an_event_of_one_project_that_names_a_post_of_another_changes_nothing_of_it() {
    let world = World::new().await;
    world.post("I hate this slow export", "It takes ten minutes").await;
    let post = world.post("I hate this slow export", "It takes ten minutes").await;
    world.event("duplicate.found", &post.to_string()).await;
    world.settled().await;
    world.database.batch_execute("delete from feedback_duplicates").await.unwrap();

    let publish = "select switchyard.publish('feedback.created', 'post', $1::uuid::text,
        jsonb_build_object('id', $1::uuid, 'title', 'I love this slow export', 'description', 'It takes ten minutes'), gen_random_uuid()::text)";
    world.database.execute(publish, &[&post]).await.unwrap();
    world.settled().await;

    assert_eq!(world.count("select count(*) from sentiment_analysis where label = 'positive'").await, 0);
    assert_eq!(world.count("select count(*) from feedback_duplicates").await, 0);
    let parked = world.store.failures("sentiment", 10).await.unwrap();
    assert_eq!(parked.iter().map(|failure| failure.reason.as_str()).collect::<Vec<_>>(), ["not_in_project"]);
}
