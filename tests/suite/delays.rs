//! An event waits in the table for its time, where a person sees it and may think better of it.

use crate::redrive::command_line::switchyard;
use switchyard_tests::{World, eventually};
use uuid::Uuid;

async fn due_in(world: &World, interval: &str) -> Uuid {
    let sql = format!(
        "select switchyard.publish('feedback.created', 'post', gen_random_uuid()::text, '{{\"title\": \"Slow\", \"description\": \"Slow\"}}',
           project_id => 'p1', metadata => jsonb_build_object('deliver_at', now() + interval '{interval}'))"
    );
    world.database.query_one(&sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn what_waits_is_seen_and_cancelled_by_the_command_line_and_the_rest_goes_when_its_time_has_come() {
    let world = World::new().await;
    let [mistaken, later, soon] =
        [due_in(&world, "1 hour").await, due_in(&world, "2 hours").await, due_in(&world, "-1 second").await];
    let waiting = switchyard(&world, &["delays", "--json"]).json();
    let ids: Vec<&str> =
        waiting["waiting"].as_array().unwrap().iter().map(|event| event["event_id"].as_str().unwrap()).collect();
    assert_eq!((ids, &waiting["in_all"]), (vec![mistaken.to_string().as_str(), &later.to_string()], &2.into()));
    let page = switchyard(&world, &["delays", "--project", "p1", "--first", "1"]);
    assert!(page.out.contains("1 event of 2") && page.out.contains("feedback.created"), "{}{}", page.out, page.err);

    let cancel =
        |event: Uuid| switchyard(&world, &["delays", "--cancel", &event.to_string(), "--because", "sent by mistake"]);
    let done = cancel(mistaken);
    assert!(done.code == 0 && done.out.contains("reaches no agent"), "{}{}", done.out, done.err);
    let waits = async |event: Uuid| {
        let sql = "select exists (select from switchyard.outbox o join switchyard.event_log l on l.seq = o.seq where l.event_id = $1)";
        world.database.query_one(sql, &[&event]).await.unwrap().get::<_, bool>(0)
    };
    eventually("what is due is published", async || (!waits(soon).await).then_some(())).await;
    assert!(!waits(mistaken).await && waits(later).await);
    assert!(cancel(soon).error().contains("its time has come"));

    let states = "select coalesce(string_agg(distinct d.state::text || coalesce(d.reason, ''), ','), '') from switchyard.delivery d
        join switchyard.event_log l on l.seq = d.seq where l.event_id = $1";
    let state: String = world.database.query_one(states, &[&mistaken]).await.unwrap().get(0);
    assert_eq!(state, "ecancelled", "of every agent that listens");
    let audit = switchyard(&world, &["audit", "--json"]).json().to_string();
    assert!(audit.contains("cancel_delayed") && audit.contains("sent by mistake") && audit.contains("ada"), "{audit}");
}
