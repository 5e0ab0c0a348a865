//! What the agent depends on is down: nothing is tried, nothing is spent, and it goes on by itself afterwards.

use super::world::{Obedient, PLENTY, RuntimeWorld, again, batch, orders};
use std::time::Duration;
use switchyard_runtime::Worker;
use switchyard_store::{BreakerState, Mode};
use tokio::time::Instant;

async fn state(world: &RuntimeWorld) -> BreakerState {
    world.store.breakers().await.unwrap().remove(0).breaker.state
}

/// As the steward does when the wait is over, without the wait.
async fn half_open(world: &RuntimeWorld) {
    world.client.batch_execute("update switchyard.breaker set retry_at = now()").await.unwrap();
    assert_eq!(world.store.half_open("obedient").await.unwrap(), BreakerState::HalfOpen);
}

async fn nothing_is_spent(world: &RuntimeWorld) {
    assert_eq!((world.count("switchyard.failure").await, world.queues.dead_letters().len()), (0, 0));
}

#[tokio::test]
async fn five_unavailable_records_in_a_row_open_the_breaker() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "work"); 5])).await;
    world.agent.model_is_down.set(true);

    assert_eq!(world.handle(&bodies, PLENTY).await.len(), 5);

    let breaker = world.store.breakers().await.unwrap().remove(0).breaker;
    assert_eq!((breaker.state, breaker.reason.as_deref()), (BreakerState::Open, Some("the model is down")));
    world.agent.model_is_down.set(false);
    world.agent.gathered.set(0);
    assert_eq!(world.handle(&bodies, PLENTY).await, [0, 1, 2, 3, 4]);
    assert_eq!(
        (world.agent.gathered.get(), world.queues.visibilities().len()),
        (0, 10),
        "not even asked, and held back"
    );
    nothing_is_spent(&world).await;
}

#[tokio::test]
async fn a_process_counts_over_its_batches_and_a_success_in_between_starts_anew() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "work"); 9])).await;
    let worker = world.worker();
    let one = async |at: usize, down: bool| {
        world.agent.model_is_down.set(down);
        again(worker.handle(batch(&bodies[at..=at], 1), Instant::now() + PLENTY).await)
    };
    for at in 0..4 {
        one(at, true).await;
    }
    assert!(one(4, false).await.is_empty());
    for at in 5..9 {
        one(at, true).await;
    }
    assert_eq!(state(&world).await, BreakerState::Closed);

    one(0, true).await;

    assert_eq!(state(&world).await, BreakerState::Open);
}

#[tokio::test]
async fn half_open_one_record_is_tried_and_closes_it() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "work"); 3])).await;
    world.store.trip("obedient", "told to").await.unwrap();
    half_open(&world).await;

    assert_eq!(world.handle(&bodies, PLENTY).await, [1, 2], "the others have their turn a little later");

    assert_eq!((state(&world).await, world.agent.gathered.get()), (BreakerState::Closed, 1));
    assert!(world.handle(&bodies, PLENTY).await.is_empty());
    assert_eq!(world.count("done").await, 3);
    nothing_is_spent(&world).await;
}

#[tokio::test]
async fn half_open_a_record_that_finds_it_still_down_opens_it_again() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "work"); 3])).await;
    world.store.trip("obedient", "told to").await.unwrap();
    half_open(&world).await;
    world.agent.model_is_down.set(true);

    assert_eq!(world.handle(&bodies, PLENTY).await, [0, 1, 2]);

    let breaker = world.store.breakers().await.unwrap().remove(0).breaker;
    assert_eq!((breaker.state, breaker.opens, world.agent.gathered.get()), (BreakerState::Open, 2, 1));
    nothing_is_spent(&world).await;
}

#[tokio::test]
async fn in_shadow_mode_who_is_never_answered_is_stored_in_the_end_and_it_opens_again() {
    let world = RuntimeWorld::new(Mode::Shadow).await;
    let bodies = world.give(&orders([("gather", "hang")])).await;
    let eight_times = "select switchyard.returned('obedient', array[l.event_id], '{0}', '{null}', '1 s')
                         from switchyard.event_log l, generate_series(1, 8)";
    world.client.batch_execute(eight_times).await.unwrap();
    world.store.trip("obedient", "told to").await.unwrap();
    half_open(&world).await;

    assert!(world.handle(&bodies, Duration::from_secs(14)).await.is_empty());

    let breaker = world.store.breakers().await.unwrap().remove(0).breaker;
    assert_eq!((breaker.state, breaker.opens, world.count("switchyard.shadow").await), (BreakerState::Open, 2, 1));
    nothing_is_spent(&world).await;
}

#[tokio::test]
async fn half_open_only_one_process_at_a_time_tries() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "work")])).await;
    world.store.trip("obedient", "told to").await.unwrap();
    half_open(&world).await;
    assert!(world.store.probe("obedient").await.unwrap(), "another process was first");

    assert_eq!(world.handle(&bodies, PLENTY).await, [0]);

    assert_eq!((world.agent.gathered.get(), state(&world).await), (0, BreakerState::HalfOpen));
}

#[tokio::test]
async fn a_forced_breaker_stays_as_it_is() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "work"); 5])).await;
    world.store.force_breaker("obedient", Some(BreakerState::Closed), "a person").await.unwrap();
    world.agent.model_is_down.set(true);
    world.handle(&bodies, PLENTY).await;
    assert_eq!(state(&world).await, BreakerState::Closed);

    world.agent.model_is_down.set(false);
    world.store.force_breaker("obedient", Some(BreakerState::Open), "a person").await.unwrap();
    assert_eq!(world.handle(&bodies, PLENTY).await.len(), 5);
    assert_eq!(world.count("done").await, 0);

    world.store.force_breaker("obedient", Some(BreakerState::Closed), "a person").await.unwrap();
    assert!(world.handle(&bodies, PLENTY).await.is_empty());
}

#[tokio::test]
async fn an_unavailable_database_opens_no_breaker() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("apply", "lose the connection"); 6])).await;
    let worker: Worker<'_, Obedient, _> = world.worker();

    for at in 0..6 {
        assert_eq!(again(worker.handle(batch(&bodies[at..=at], 1), Instant::now() + PLENTY).await), [0]);
    }

    assert_eq!(state(&world).await, BreakerState::Closed);
    nothing_is_spent(&world).await;
}
