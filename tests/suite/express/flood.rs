//! The deployed lanes under a flood. Counted in the order of the log, not by a clock.

use switchyard_bus::{AgentPlaces, Directory, LambdaDirectory, LambdaMappings, Mappings};
use switchyard_tests::{World, eventually};
use uuid::Uuid;

/// Events that are not urgent.
const FLOOD: i64 = 300;
/// How many are urgent, and how many are nearly urgent, for comparison.
const URGENT: i64 = 10;

/// So many posts, each with an event of this priority. The triggers of the domain do not fire in a
/// replica's session; the one of the event log always does.
async fn posts(world: &mut World, count: i64, priority: i32) {
    let insert = "with post as (
                    insert into posts (project_id, title, description)
                    select $1, 'Priority ' || $3::int || ', number ' || n, 'words' from generate_series(1, $2::bigint) n returning id, title, project_id)
                  insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                  select gen_random_uuid(), 'feedback.created', 'post', id, jsonb_build_object('title', title), jsonb_build_object('priority', $3::int, 'project_id', project_id), 1
                    from post";
    let tx = world.database.transaction().await.unwrap();
    tx.batch_execute("set local session_replication_role = replica").await.unwrap();
    tx.execute(insert, &[&Uuid::from_u128(7), &count, &priority]).await.unwrap();
    tx.commit().await.unwrap();
}

async fn sentiment(world: &World) -> AgentPlaces {
    let directory = LambdaDirectory::new(&world.aws, "switchyard".into());
    directory.places().await.unwrap().agents.into_iter().find(|place| place.agent == "sentiment").unwrap()
}

async fn waits(world: &World, queue: &str, expected: i64) {
    eventually(&format!("{expected} messages in {queue}"), async || {
        (i64::from(world.waiting(queue).await) == expected).then_some(())
    })
    .await;
}

/// How many of the flood were handled before the last of this priority, in the order in which the agent said what it found.
async fn of_the_flood_before(world: &World, priority: i32) -> i64 {
    let sql = "with said as (
                 select log.seq, (cause.metadata->>'priority')::int as priority
                   from events e
                   join switchyard.event_log log on log.event_id = e.id
                   join events cause on cause.id = (e.metadata->>'causation_id')::uuid
                  where e.type = 'sentiment.analyzed')
               select count(*) from said where priority = 5 and seq < (select max(seq) from said where priority = $1)";
    world.database.query_one(sql, &[&priority]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_flood_does_not_delay_urgent_events() {
    let mut world = World::at_rest().await;
    world.deaf("Duplicate").await;
    let places = sentiment(&world).await;
    let mappings = LambdaMappings::new(&world.aws);
    for mapping in places.mappings() {
        mappings.set_enabled(mapping, false).await.unwrap();
        eventually("off", async || (!mappings.enabled(mapping).await.unwrap().may_feed()).then_some(())).await;
    }
    posts(&mut world, FLOOD, 5).await;
    world.wake_shim();
    waits(&world, "SentimentQueue", FLOOD).await;
    posts(&mut world, URGENT, 7).await;
    posts(&mut world, URGENT, 8).await;
    waits(&world, "SentimentQueue", FLOOD + URGENT).await;
    waits(&world, "SentimentExpressQueue", URGENT).await;

    // The flood's first.
    for mapping in places.mappings() {
        mappings.set_enabled(mapping, true).await.unwrap();
    }
    let said = "select count(*) from events where type = 'sentiment.analyzed'";
    eventually("all are handled", async || (world.count(said).await == FLOOD + 2 * URGENT).then_some(())).await;

    let (before_urgent, before_others) = (of_the_flood_before(&world, 8).await, of_the_flood_before(&world, 7).await);
    println!(
        "of {FLOOD}: {before_urgent} before the last of {URGENT} urgent ones, {before_others} before the last of {URGENT} of priority 7"
    );
    assert!(before_urgent < FLOOD / 2, "{before_urgent} of the flood came first");
    assert!(before_others > before_urgent, "{before_others}: the one queue makes them wait");
}

#[tokio::test]
async fn a_failed_urgent_event_backs_off_in_the_express_queue_and_shares_the_dead_letter_queue() {
    let mut world = World::at_rest().await;
    world.database.batch_execute(crate::failures::REFUSE).await.unwrap();
    world.database.batch_execute("update switchyard.agent set max_attempts = 3").await.unwrap();
    posts(&mut world, 1, 9).await;
    world.database.batch_execute("update posts set title = 'Refused'").await.unwrap();
    world.wake_shim();
    // Within two minutes: what no runtime had deferred would come again after three, when its visibility timeout ends.
    let dead_letters = world.dead_letters("Sentiment", 2).await;
    let reasons: Vec<_> = dead_letters
        .iter()
        .filter_map(|letter| letter.message_attributes.as_ref()?["reason"].string_value.clone())
        .collect();
    assert_eq!(reasons, ["attempts_used_up"; 2], "the urgent one and the update that says so");
    for queue in ["SentimentQueue", "SentimentExpressQueue"] {
        waits(&world, queue, 0).await;
    }
    assert_eq!(world.count("select count(*) from switchyard.failure where not parked").await, 6, "three attempts each");
}
