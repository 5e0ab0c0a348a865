//! The pass as a whole: one at a time, an agent's error stops no other agent, and what it reports.

use super::world::{AGENT, StewardWorld, soon};
use std::time::Duration;
use steward::Limits;
use switchyard_bus::{Mappings, Message, Queue};
use switchyard_operations::breaker::BreakerState;
use switchyard_store::Since;
use tokio::time::Instant;

#[tokio::test]
async fn one_agent_s_error_is_reported_and_stops_no_other() {
    let world = StewardWorld::of(&["a-first", "b-broken", "c-last"]).await;
    for agent in ["a-first", "b-broken", "c-last"] {
        world.register(agent, Since::Now).await;
    }
    world.lost(4).await;
    for queue in ["queue", "letters", "undelivered"] {
        world.queues.break_down(&format!("b-broken/{queue}"));
    }

    let pass = world.pass().await;

    assert_eq!(pass.agents.iter().map(|done| done.sent).collect::<Vec<_>>(), [4, 0, 4]);
    let troubled: Vec<&str> = pass
        .agents
        .iter()
        .filter(|done| !done.standing.troubles.is_empty())
        .map(|done| done.standing.agent.as_str())
        .collect();
    assert_eq!(troubled, ["b-broken"]);
    assert!(pass.agents[1].standing.troubles.iter().any(|line| line.contains("it is down")));
    assert_eq!(pass.troubles(), pass.agents[1].standing.troubles.len());
}

#[tokio::test]
async fn an_unregistered_agent_is_reported_and_an_undeployed_one_is_not() {
    let world = StewardWorld::of(&["stranger", AGENT]).await;
    world.register(AGENT, Since::Now).await;
    world.register("not-deployed", Since::Now).await;
    world.lost(2).await;
    world.queues.named("stranger/letters").send(&[Message::new("{".into())]).await;

    let pass = world.pass().await;

    let names: Vec<&str> = pass.agents.iter().map(|done| done.standing.agent.as_str()).collect();
    assert_eq!(names, ["not-deployed", AGENT]);
    assert!(
        pass.troubles.len() == 1
            && pass.troubles[0].contains("stranger")
            && pass.troubles[0].contains("switchyard-setup")
    );
    assert_eq!(pass.agents[0].standing.deliveries.unwrap().pending, 2, "its events wait in the ledger");
    assert_eq!(world.queues.named("stranger/letters").messages().len(), 1);
}

#[tokio::test]
async fn ingest_has_dead_letters_and_no_deliveries() {
    let world = StewardWorld::of(&["ingest"]).await;
    world.queues.named("ingest/letters").send(&[Message::new("{ killed it".into())]).await;
    world.queues.named("ingest/undelivered").send(&[Message::new("{}".into())]).await;

    let pass = world.pass().await;

    let done = &pass.agents[0];
    assert_eq!((pass.troubles(), done.standing.agent.as_str(), done.died, done.delivered), (0, "ingest", 1, 1));
    assert!(done.standing.breaker.is_none() && done.standing.deliveries.is_none());
    assert_eq!(world.queues.named("ingest/letters").messages()[0].attribute("agent"), Some("ingest"));
    assert_eq!(world.store.failures("ingest", 10).await.unwrap()[0].reason, "process_died");
}

#[tokio::test]
async fn two_stewards_take_turns_and_send_nothing_twice() {
    let world = StewardWorld::new().await;
    world.lost(50).await;
    let other = world.another(Limits::DEFAULT);

    let (one, two) = tokio::join!(world.steward.pass(soon()), other.pass(soon()));

    let sent: Vec<usize> =
        [one.unwrap(), two.unwrap()].iter().map(|pass| pass.agents.iter().map(|done| done.sent).sum()).collect();
    assert_eq!(sent.iter().sum::<usize>(), 50, "{sent:?}");
    assert_eq!(world.queue().messages().len(), 50);
}

#[tokio::test]
async fn a_steward_that_never_gets_the_lease_reports_busy() {
    let world = StewardWorld::new().await;
    world.lost(5).await;
    let busy = switchyard_store::Sharer { name: "steward", holder: uuid::Uuid::new_v4(), at_once: 1, lasts_ms: 60_000 };
    world.store.share(&busy, switchyard_store::Shards::NONE).await.unwrap();

    // A deadline so near that waiting is over at once.
    let pass = world.steward.pass(Instant::now() + Duration::from_millis(8_100)).await.unwrap();

    assert!(pass.busy && pass.agents.is_empty());
    assert!(world.queue().messages().is_empty());
    world.store.leave(&busy, true).await.unwrap();
    assert_eq!(world.reconcile().await.sent, 5);
}

#[tokio::test]
async fn a_pass_without_time_starts_nothing_and_releases_the_lease() {
    let world = StewardWorld::new().await;
    world.lost(5).await;
    let pass = world.steward.pass(Instant::now() + Duration::from_millis(8_000)).await.unwrap();
    assert!(pass.busy || pass.agents.iter().all(|done| !done.standing.troubles.is_empty()));
    assert_eq!(world.reconcile().await.sent + world.queue().messages().len(), 10);
}

#[tokio::test]
async fn a_status_shows_everything_and_changes_nothing() {
    let world = StewardWorld::new().await;
    world.lost(7).await;
    world.dead_letters().send(&[Message::new("{".into())]).await;
    world.store.trip(AGENT, "down").await.unwrap();
    let before = world.number("select count(*) from switchyard.audit").await;

    let status = world.steward.status(soon()).await;

    let [standing] = status.agents.as_slice() else { panic!("one agent: {status:?}") };
    let breaker = standing.breaker.as_ref().unwrap();
    assert_eq!((breaker.state, breaker.reason.as_deref()), (BreakerState::Open, Some("down")));
    assert_eq!((standing.flows, standing.paused_by, standing.dead_letters), (Some(true), None, Some(1)));
    assert_eq!(standing.deliveries.unwrap().pending, 7);
    assert!(world.mappings.enabled("painter/mapping").await.unwrap().wanted);
    assert_eq!(world.number("select count(*) from switchyard.delivery").await, 0);
    assert_eq!(world.number("select count(*) from switchyard.audit").await, before);
    assert!(world.queue().messages().is_empty() && world.dead_letters().depth().await.unwrap().visible == 1);
}

#[tokio::test]
async fn forcing_a_breaker_returns_the_agent_s_state() {
    let world = StewardWorld::new().await;
    let open = Some(BreakerState::Open);
    let status = world.steward.set_breaker(AGENT, open, "ada", soon()).await.unwrap();
    assert_eq!((status.agents.len(), status.agents[0].breaker.as_ref().unwrap().forced), (1, true));
    let nobody = world.steward.set_breaker("nobody", open, "ada", soon()).await.unwrap_err();
    assert!(nobody.to_string().contains("nobody"), "{nobody}");
}

#[tokio::test]
async fn events_that_were_inserted_past_the_trigger_are_carried_and_counted() {
    let world = StewardWorld::new().await;
    let insert = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version, created_at)
                  values (gen_random_uuid(), 'thing.made', 'thing', gen_random_uuid(), '{}', '{}', 1, clock_timestamp())";
    world.run(&format!("alter table events disable trigger switchyard_log; {insert}; alter table events enable trigger switchyard_log")).await;

    let clock = world.pass().await.ledger.unwrap();

    assert_eq!(clock.logged_late, 1);
    assert!(clock.room > 1_000_000, "and there is room: {}", clock.room);
    assert_eq!(world.number("select count(*) from switchyard.outbox").await, 1, "for the shim to publish");
}

#[tokio::test]
async fn unpublishable_events_are_counted_shown_and_retried_by_a_named_operator() {
    let world = StewardWorld::new().await;
    let events = world.lost(2).await;
    world
        .run(
            "insert into switchyard.outbox (seq, shard, parked_at, attempts, reason)
             select seq, 0, clock_timestamp(), 5, 'the topic would not have it' from switchyard.event_log order by seq",
        )
        .await;

    let pass = world.pass().await;
    assert_eq!((world.steward.status(soon()).await.unpublishable, pass.unpublishable), (Some(2), Some(2)));
    assert_eq!(pass.oldest_unpublished_secs, Some(0.0), "no other event waits for the shim");
    let unpublishable = world.steward.outbox().await.unwrap().unpublishable;
    assert_eq!(unpublishable.iter().map(|row| row.event_id).collect::<Vec<_>>(), events);
    assert_eq!(unpublishable[0].reason, "the topic would not have it");

    assert_eq!(world.steward.retry_publishing(&[unpublishable[1].seq], "ada").await.unwrap().retried, 1);
    assert_eq!(world.steward.retry_publishing(&[], "ada").await.unwrap().retried, 1);
    assert_eq!(world.steward.status(soon()).await.unpublishable, Some(0));
    let audited = world.store.audit(100).await.unwrap().iter().filter(|row| row.by == "ada").count();
    assert_eq!(audited, 2);
}

#[tokio::test]
async fn once_an_hour_a_pass_says_why_the_oldest_partition_is_kept_whichever_process_makes_it() {
    let world = StewardWorld::new().await;
    assert!(world.pass().await.ledger.unwrap().kept_because.is_some_and(|because| !because.is_empty()));
    let other = world.another(Limits::DEFAULT);
    assert_eq!(other.pass(soon()).await.unwrap().ledger.unwrap().kept_because, None, "another one has looked");
}

#[tokio::test]
async fn parked_deliveries_are_summed_over_all_agents() {
    let world = StewardWorld::of(&["a-first", "b-second"]).await;
    for agent in ["a-first", "b-second"] {
        world.register(agent, Since::Now).await;
    }
    world.lost(3).await;
    world.pass().await;
    world
        .run("update switchyard.delivery set state = 'p' where seq < (select max(seq) from switchyard.delivery)")
        .await;
    assert_eq!(world.pass().await.parked(), 4);
}

#[tokio::test]
async fn a_misconfigured_queue_is_reported_and_hides_no_agent() {
    let world = StewardWorld::new().await;
    world.lost(2).await;
    let steward = world.with_trouble("the queue dev-x has no dead-letter queue");
    let pass = steward.pass(soon()).await.unwrap();
    assert_eq!(
        (pass.troubles.as_slice(), pass.agents[0].sent),
        (&["the queue dev-x has no dead-letter queue".to_owned()][..], 2)
    );
}
