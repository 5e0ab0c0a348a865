//! Mappings follow breakers, and what people do to either is respected.

use super::world::{AGENT, StewardWorld, soon};
use std::time::Duration;
use switchyard_bus::{Mappings, Message, Queue};
use switchyard_operations::status::PausedBy;
use switchyard_store::BreakerState;

#[tokio::test]
async fn an_open_breaker_pauses_the_mapping_and_nothing_is_sent_until_it_is_half_open() {
    let world = StewardWorld::new().await;
    world.lost(20).await;
    world.store.trip(AGENT, "the model is down").await.unwrap();

    let done = world.reconcile().await;
    assert_eq!((done.sent, done.standing.flows, done.standing.paused_by), (0, Some(false), Some(PausedBy::Steward)));
    assert!(!world.flows().await);
    assert_eq!(done.found, 20, "what is missing is written down meanwhile");

    world.later(Duration::from_secs(25)).await;
    assert_eq!(world.reconcile().await.standing.breaker.unwrap().state, BreakerState::Open, "its wait is not over");
    assert!(!world.flows().await);

    world.later(Duration::from_secs(10)).await;
    let done = world.reconcile().await;
    assert_eq!((done.standing.breaker.unwrap().state, done.standing.flows), (BreakerState::HalfOpen, Some(true)));
    assert!(world.flows().await);
    assert_eq!(done.sent, 10, "a few, for the probe");
}

#[tokio::test]
async fn a_waiting_message_serves_as_the_probe_and_the_queue_drains_after_it() {
    let world = StewardWorld::new().await;
    world.lost(20).await;
    world.queue().send(&[Message::new("waits".into())]).await;
    world.store.trip(AGENT, "down").await.unwrap();
    world.reconcile().await;
    world.later(Duration::from_secs(31)).await;

    assert_eq!(world.reconcile().await.sent, 0, "half-open, and there is something to try");
    assert!(world.store.probe(AGENT).await.unwrap());
    world.store.recovered(AGENT).await.unwrap();

    let done = world.reconcile().await;
    assert_eq!((done.standing.breaker.unwrap().state, done.standing.flows), (BreakerState::Closed, Some(true)));
    assert_eq!(done.standing.paused_by, None);
}

#[tokio::test]
async fn a_mapping_that_an_operator_turned_off_stays_off_and_is_reported() {
    let world = StewardWorld::new().await;
    world.lost(3).await;
    world.mappings.set_enabled("painter/mapping", false).await.unwrap();

    for _ in 0..3 {
        let done = world.reconcile().await;
        assert_eq!((done.sent, done.standing.paused_by), (0, Some(PausedBy::Operator)));
    }
    world.store.trip(AGENT, "down").await.unwrap();
    world.later(Duration::from_secs(31)).await;
    for _ in 0..3 {
        assert_eq!(
            world.reconcile().await.standing.paused_by,
            Some(PausedBy::Operator),
            "its breaker makes no difference"
        );
    }
    assert!(!world.flows().await);
    world.mappings.set_enabled("painter/mapping", true).await.unwrap();
    world.store.recovered(AGENT).await.unwrap();
    assert_eq!(world.reconcile().await.sent, 3);
}

#[tokio::test]
async fn of_two_stacks_on_one_database_each_turns_on_what_it_has_turned_off_itself() {
    let world = StewardWorld::new().await;
    let (beside, mappings) = world.of_a_second_stack();
    let both_flow = async || (world.flows().await, mappings.enabled("elsewhere").await.unwrap().wanted);
    let both_pass = async || {
        assert!(!beside.pass(soon()).await.unwrap().busy);
        world.pass().await;
    };
    for by_operator in [false, true] {
        if by_operator {
            mappings.set_enabled("elsewhere", false).await.unwrap();
        }
        world.store.trip(AGENT, "down").await.unwrap();
        both_pass().await;
        assert_eq!(both_flow().await, (false, false));

        world.store.force_breaker(AGENT, Some(BreakerState::Closed), "ada").await.unwrap();
        both_pass().await;
        assert_eq!(both_flow().await, (true, !by_operator));
        world.store.force_breaker(AGENT, None, "ada").await.unwrap();
    }
}

#[tokio::test]
async fn what_a_person_turns_on_again_while_the_breaker_is_open_is_paused_again() {
    let world = StewardWorld::new().await;
    world.store.trip(AGENT, "down").await.unwrap();
    world.reconcile().await;
    world.mappings.enabled("painter/mapping").await.unwrap();
    world.mappings.set_enabled("painter/mapping", true).await.unwrap();
    world.reconcile().await;
    assert!(!world.flows().await, "the way to have it on is the breaker: closed by hand");
}

#[tokio::test]
async fn an_operator_s_setting_of_the_breaker_stays_until_it_is_ended() {
    let world = StewardWorld::new().await;
    world.store.force_breaker(AGENT, Some(BreakerState::Open), "ada").await.unwrap();
    for _ in 0..3 {
        let done = world.reconcile().await;
        let breaker = done.standing.breaker.unwrap();
        assert_eq!((breaker.state, breaker.forced, done.standing.flows), (BreakerState::Open, true, Some(false)));
        world.later(Duration::from_secs(3_600)).await;
    }

    world.store.force_breaker(AGENT, Some(BreakerState::Closed), "ada").await.unwrap();
    assert_eq!(world.store.trip(AGENT, "down").await.unwrap(), BreakerState::Closed);
    assert_eq!(world.reconcile().await.standing.flows, Some(true), "closed by hand keeps it running");

    world.store.force_breaker(AGENT, None, "ada").await.unwrap();
    world.store.trip(AGENT, "down").await.unwrap();
    assert_eq!(world.reconcile().await.standing.flows, Some(false));
    let audited = world.number("select count(*) from switchyard.audit where by = 'ada'").await;
    assert_eq!(audited, 3);
}

#[tokio::test]
async fn a_mapping_that_cannot_be_paused_is_remembered_as_ours_and_paused_by_the_next_pass() {
    let world = StewardWorld::new().await;
    // A change is under way: the service refuses another one.
    world.mappings.set_enabled("painter/mapping", false).await.unwrap();
    world.mappings.enabled("painter/mapping").await.unwrap();
    world.mappings.set_enabled("painter/mapping", true).await.unwrap();
    world.store.trip(AGENT, "down").await.unwrap();
    world.reconcile().await;
    world.reconcile().await;
    assert!(!world.flows().await);
    world.later(Duration::from_secs(31)).await;
    assert_eq!(world.reconcile().await.standing.flows, Some(true), "and it is the steward's to turn on again");
}

#[tokio::test]
async fn a_steward_without_its_lease_changes_no_mapping() {
    let world = StewardWorld::new().await;
    world.store.trip(AGENT, "down").await.unwrap();
    // Between the note that it pauses and the pause, it stands still, and another one takes over.
    world
        .run(
            "create function public.another() returns trigger language plpgsql as $$ begin
               update switchyard.lease set holder = gen_random_uuid(), until = clock_timestamp() + interval '1 minute' where name = 'steward';
               return null;
             end $$;
             create trigger another after update of paused on switchyard.breaker for each row when (new.paused <> '{}') execute function public.another()",
        )
        .await;

    let done = world.reconcile().await;

    assert!(
        done.standing.troubles.iter().any(|line| line.contains("the lease on the pass ended")),
        "{:?}",
        done.standing.troubles
    );
    assert!(world.flows().await, "that is the other one's to do");
}
