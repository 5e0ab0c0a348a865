//! A record that kills its process is found and parked, and affects no other record.

use super::world::{PLENTY, RuntimeWorld, again, batch, orders};
use std::time::Duration;
use switchyard_store::{BreakerState, Mode, Selection};
use tokio::time::Instant;

#[tokio::test]
async fn a_record_that_kills_its_process_is_parked_after_three_deaths_alone_and_its_neighbours_are_done() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "work"), ("gather", "kill"), ("gather", "work")])).await;
    for receives in 1..=3 {
        assert_eq!(world.handle_received(&bodies, receives, PLENTY).await, None, "the whole batch dies with it");
    }
    assert_eq!(world.count("done").await, 0);

    for receives in 4..=6 {
        assert_eq!(world.handle_received(&bodies, receives, PLENTY).await, None);
        assert_eq!(world.count("done").await, 1, "who stood before it is done, once");
    }
    assert_eq!(world.count("switchyard.delivery where deaths = 3").await, 1);
    assert_eq!(world.handle_received(&bodies, 7, PLENTY).await, Some(vec![]));

    assert_eq!((world.reasons(), world.states().await), (vec!["process_died".to_owned()], "dpd".to_owned()));
    assert_eq!(world.count("done").await, 2);
}

#[tokio::test]
async fn beside_newcomers_a_suspect_comes_last() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let killer = world.give(&orders([("gather", "kill")])).await.remove(0);
    let mut bodies = vec![killer];
    // Retried twice, so that their receives are accounted for.
    bodies.extend(world.give(&orders([("gather", "work"), ("gather", "work")])).await);
    world.client.batch_execute("update switchyard.agent set max_attempts = 9").await.unwrap();
    world
        .client
        .batch_execute(
            "insert into switchyard.delivery (agent, run, seq, owner, state, attempts, next_attempt_at)
         select a.id, 0, l.seq, 'n', 'f', 3, now() from switchyard.agent a, switchyard.event_log l
          where l.seq > (select min(seq) from switchyard.event_log)",
        )
        .await
        .unwrap();

    assert_eq!(world.handle_received(&bodies, 4, PLENTY).await, None);

    assert_eq!((world.states().await, world.count("done").await), ("add".to_owned(), 2));
}

#[tokio::test]
async fn innocents_that_a_long_outage_has_returned_often_all_come_through() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "work"); 10])).await;

    assert_eq!(world.handle_received(&bodies, 90, PLENTY).await, Some(vec![]));

    assert_eq!((world.count("done").await, world.queues.dead_letters().len()), (10, 0));
}

#[tokio::test]
async fn a_returned_record_is_reported_to_the_ledger_and_is_no_suspect() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "work"); 2])).await;
    world.store.force_breaker("obedient", Some(BreakerState::Open), "a person").await.unwrap();
    for receives in 1..=9 {
        assert_eq!(world.handle_received(&bodies, receives, PLENTY).await, Some(vec![0, 1]));
    }
    assert_eq!(world.count("switchyard.delivery where returns = 9 and sends = 0").await, 2);
    world.store.force_breaker("obedient", Some(BreakerState::Closed), "a person").await.unwrap();

    assert_eq!(world.handle_received(&bodies, 10, PLENTY).await, Some(vec![]));

    assert_eq!(world.count("switchyard.delivery where deaths > 0").await, 0, "nobody was tried alone");
    assert_eq!(world.count("done").await, 2);
}

#[tokio::test]
async fn returns_during_an_outage_of_the_ledger_are_reported_afterwards() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "retry"), ("gather", "retry")])).await;
    let worker = world.worker();
    let handle = async |at: usize| again(worker.handle(batch(&bodies[at..=at], 1), Instant::now() + PLENTY).await);
    let rename = async |from: &str, to: &str| {
        let sql = format!("alter function switchyard.{from}(text, uuid[], int[], bytea[], text[]) rename to {to}");
        world.client.batch_execute(&sql).await.unwrap();
    };
    rename("preview", "gone").await;
    assert_eq!(handle(0).await, [0]);
    rename("gone", "preview").await;

    assert_eq!(handle(1).await, [0]);

    assert_eq!(world.count("switchyard.delivery where returns = 1").await, 1);
}

#[tokio::test]
async fn a_death_that_did_not_come_and_could_not_be_cleared_is_cleared_with_the_next_batch() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "be out of luck"), ("gather", "work")])).await;
    let worker = world.worker();
    let handle = async |at: usize, receives| {
        again(worker.handle(batch(&bodies[at..=at], receives), Instant::now() + PLENTY).await)
    };
    world.client.batch_execute("alter function switchyard.survived(text, uuid[], int[]) rename to gone").await.unwrap();
    assert_eq!(handle(0, 20).await, [0]);
    assert_eq!(world.count("switchyard.delivery where deaths = 1").await, 1);
    world.client.batch_execute("alter function switchyard.gone(text, uuid[], int[]) rename to survived").await.unwrap();

    assert!(handle(1, 1).await.is_empty());

    assert_eq!(world.count("switchyard.delivery where deaths > 0").await, 0);
}

#[tokio::test]
async fn in_shadow_mode_that_it_kills_its_process_is_what_is_compared() {
    let world = RuntimeWorld::new(Mode::Shadow).await;
    let bodies = world.give(&orders([("gather", "kill")])).await;
    for receives in 4..=6 {
        assert_eq!(world.handle_received(&bodies, receives, PLENTY).await, None);
    }

    assert_eq!(world.handle_received(&bodies, 7, PLENTY).await, Some(vec![]));

    assert!(world.queues.dead_letters().is_empty(), "the old system's events fill no dead-letter queue");
    assert_eq!(world.count("switchyard.shadow where decision::text like '%process_died%'").await, 1);
}

#[tokio::test]
async fn a_suspect_that_ends_in_an_orderly_way_is_cleared() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "panic")])).await;

    assert_eq!(world.handle_received(&bodies, 20, PLENTY).await, Some(vec![0]));

    assert_eq!(world.count("switchyard.delivery where deaths = 0 and attempts = 1 and state = 'f'").await, 1);
}

#[tokio::test]
async fn what_does_not_fit_into_the_time_is_returned_without_having_been_counted() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "work"); 2])).await;

    assert_eq!(world.handle_received(&bodies, 20, Duration::from_secs(11)).await, Some(vec![0, 1]));

    assert_eq!((world.agent.gathered.get(), world.count("switchyard.delivery where deaths > 0").await), (0, 0));
}

#[tokio::test]
async fn redriven_it_has_three_lives_again() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "kill")])).await;
    for receives in 4..=6 {
        assert_eq!(world.handle_received(&bodies, receives, PLENTY).await, None);
    }
    assert_eq!(world.handle_received(&bodies, 7, PLENTY).await, Some(vec![]));
    let redriven = world.store.redrive("obedient", &Selection::default(), 0, "a person", "more memory").await.unwrap();
    assert_eq!(redriven.len(), 1);

    for receives in 8..=10 {
        assert_eq!(world.handle_received(&bodies, receives, PLENTY).await, None, "tried again");
    }
    assert_eq!(world.handle_received(&bodies, 11, PLENTY).await, Some(vec![]));
    assert_eq!(world.reasons(), ["process_died", "process_died"]);
}
