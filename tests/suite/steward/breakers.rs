//! Mappings follow breakers, and what people do to either is respected.

use super::bench::{AGENT, Bench, soon};
use std::time::Duration;
use switchyard_bus::{Mappings, Message, Queue};
use switchyard_operations::status::PausedBy;
use switchyard_store::BreakerState;

#[tokio::test]
async fn an_open_breaker_pauses_the_mapping_and_nothing_is_sent_until_it_is_half_open() {
    let bench = Bench::new().await;
    bench.lost(20).await;
    bench.store.trip(AGENT, "the model is down").await.unwrap();

    let done = bench.reconcile().await;
    assert_eq!((done.sent, done.standing.flows, done.standing.paused_by), (0, Some(false), Some(PausedBy::Steward)));
    assert!(!bench.flows().await);
    assert_eq!(done.found, 20, "what is missing is written down meanwhile");

    bench.later(Duration::from_secs(25)).await;
    assert_eq!(bench.reconcile().await.standing.breaker.unwrap().state, BreakerState::Open, "its wait is not over");
    assert!(!bench.flows().await);

    bench.later(Duration::from_secs(10)).await;
    let done = bench.reconcile().await;
    assert_eq!((done.standing.breaker.unwrap().state, done.standing.flows), (BreakerState::HalfOpen, Some(true)));
    assert!(bench.flows().await);
    assert_eq!(done.sent, 10, "a few, for the probe");
}

#[tokio::test]
async fn a_waiting_message_serves_as_the_probe_and_the_queue_drains_after_it() {
    let bench = Bench::new().await;
    bench.lost(20).await;
    bench.queue().send(&[Message::new("waits".into())]).await;
    bench.store.trip(AGENT, "down").await.unwrap();
    bench.reconcile().await;
    bench.later(Duration::from_secs(31)).await;

    assert_eq!(bench.reconcile().await.sent, 0, "half-open, and there is something to try");
    assert!(bench.store.probe(AGENT).await.unwrap());
    bench.store.recovered(AGENT).await.unwrap();

    let done = bench.reconcile().await;
    assert_eq!((done.standing.breaker.unwrap().state, done.standing.flows), (BreakerState::Closed, Some(true)));
    assert_eq!(done.standing.paused_by, None);
}

#[tokio::test]
async fn a_mapping_that_an_operator_turned_off_stays_off_and_is_reported() {
    let bench = Bench::new().await;
    bench.lost(3).await;
    bench.mappings.set_enabled("painter/mapping", false).await.unwrap();

    for _ in 0..3 {
        let done = bench.reconcile().await;
        assert_eq!((done.sent, done.standing.paused_by), (0, Some(PausedBy::Operator)));
    }
    bench.store.trip(AGENT, "down").await.unwrap();
    bench.later(Duration::from_secs(31)).await;
    for _ in 0..3 {
        assert_eq!(
            bench.reconcile().await.standing.paused_by,
            Some(PausedBy::Operator),
            "its breaker makes no difference"
        );
    }
    assert!(!bench.flows().await);
    bench.mappings.set_enabled("painter/mapping", true).await.unwrap();
    bench.store.recovered(AGENT).await.unwrap();
    assert_eq!(bench.reconcile().await.sent, 3);
}

#[tokio::test]
async fn of_two_stacks_on_one_database_each_turns_on_what_it_has_turned_off_itself() {
    let bench = Bench::new().await;
    let (beside, mappings) = bench.of_a_second_stack();
    let both_flow = async || (bench.flows().await, mappings.enabled("elsewhere").await.unwrap().wanted);
    let both_pass = async || {
        assert!(!beside.pass(soon()).await.unwrap().busy);
        bench.pass().await;
    };
    for by_operator in [false, true] {
        if by_operator {
            mappings.set_enabled("elsewhere", false).await.unwrap();
        }
        bench.store.trip(AGENT, "down").await.unwrap();
        both_pass().await;
        assert_eq!(both_flow().await, (false, false));

        bench.store.force_breaker(AGENT, Some(BreakerState::Closed), "ada").await.unwrap();
        both_pass().await;
        assert_eq!(both_flow().await, (true, !by_operator));
        bench.store.force_breaker(AGENT, None, "ada").await.unwrap();
    }
}

#[tokio::test]
async fn what_a_person_turns_on_again_while_the_breaker_is_open_is_paused_again() {
    let bench = Bench::new().await;
    bench.store.trip(AGENT, "down").await.unwrap();
    bench.reconcile().await;
    bench.mappings.enabled("painter/mapping").await.unwrap();
    bench.mappings.set_enabled("painter/mapping", true).await.unwrap();
    bench.reconcile().await;
    assert!(!bench.flows().await, "the way to have it on is the breaker: closed by hand");
}

#[tokio::test]
async fn an_operator_s_setting_of_the_breaker_stays_until_it_is_ended() {
    let bench = Bench::new().await;
    bench.store.force_breaker(AGENT, Some(BreakerState::Open), "ada").await.unwrap();
    for _ in 0..3 {
        let done = bench.reconcile().await;
        let breaker = done.standing.breaker.unwrap();
        assert_eq!((breaker.state, breaker.forced, done.standing.flows), (BreakerState::Open, true, Some(false)));
        bench.later(Duration::from_secs(3_600)).await;
    }

    bench.store.force_breaker(AGENT, Some(BreakerState::Closed), "ada").await.unwrap();
    assert_eq!(bench.store.trip(AGENT, "down").await.unwrap(), BreakerState::Closed);
    assert_eq!(bench.reconcile().await.standing.flows, Some(true), "closed by hand keeps it running");

    bench.store.force_breaker(AGENT, None, "ada").await.unwrap();
    bench.store.trip(AGENT, "down").await.unwrap();
    assert_eq!(bench.reconcile().await.standing.flows, Some(false));
    let audited = bench.number("select count(*) from switchyard.audit where by = 'ada'").await;
    assert_eq!(audited, 3);
}

#[tokio::test]
async fn a_mapping_that_cannot_be_paused_is_remembered_as_ours_and_paused_by_the_next_pass() {
    let bench = Bench::new().await;
    // A change is under way: the service refuses another one.
    bench.mappings.set_enabled("painter/mapping", false).await.unwrap();
    bench.mappings.enabled("painter/mapping").await.unwrap();
    bench.mappings.set_enabled("painter/mapping", true).await.unwrap();
    bench.store.trip(AGENT, "down").await.unwrap();
    bench.reconcile().await;
    bench.reconcile().await;
    assert!(!bench.flows().await);
    bench.later(Duration::from_secs(31)).await;
    assert_eq!(bench.reconcile().await.standing.flows, Some(true), "and it is the steward's to turn on again");
}

#[tokio::test]
async fn a_steward_without_its_lease_changes_no_mapping() {
    let bench = Bench::new().await;
    bench.store.trip(AGENT, "down").await.unwrap();
    // Between the note that it pauses and the pause, it stands still, and another one takes over.
    bench
        .run(
            "create function public.another() returns trigger language plpgsql as $$ begin
               update switchyard.lease set holder = gen_random_uuid(), until = clock_timestamp() + interval '1 minute' where name = 'steward';
               return null;
             end $$;
             create trigger another after update of paused on switchyard.breaker for each row when (new.paused <> '{}') execute function public.another()",
        )
        .await;

    let done = bench.reconcile().await;

    assert!(
        done.standing.troubles.iter().any(|line| line.contains("the lease on the pass ended")),
        "{:?}",
        done.standing.troubles
    );
    assert!(bench.flows().await, "that is the other one's to do");
}
