//! A record that kills its process is found and parked, and takes nobody with it.

use super::bench::{Bench, PLENTY, again, batch, orders};
use std::time::Duration;
use switchyard_store::{BreakerState, Mode, Selection};
use tokio::time::Instant;

#[tokio::test]
async fn a_record_that_kills_its_process_is_parked_after_three_deaths_alone_and_its_neighbours_are_done() {
    let bench = Bench::new(Mode::Full).await;
    let bodies = bench.give(&orders([("gather", "work"), ("gather", "kill"), ("gather", "work")])).await;
    for receives in 1..=3 {
        assert_eq!(bench.handle_received(&bodies, receives, PLENTY).await, None, "the whole batch dies with it");
    }
    assert_eq!(bench.count("done").await, 0);

    for receives in 4..=6 {
        assert_eq!(bench.handle_received(&bodies, receives, PLENTY).await, None);
        assert_eq!(bench.count("done").await, 1, "who stood before it is done, once");
    }
    assert_eq!(bench.count("switchyard.delivery where deaths = 3").await, 1);
    assert_eq!(bench.handle_received(&bodies, 7, PLENTY).await, Some(vec![]));

    assert_eq!((bench.reasons(), bench.states().await), (vec!["process_died".to_owned()], "dpd".to_owned()));
    assert_eq!(bench.count("done").await, 2);
}

#[tokio::test]
async fn beside_newcomers_a_suspect_comes_last() {
    let bench = Bench::new(Mode::Full).await;
    let killer = bench.give(&orders([("gather", "kill")])).await.remove(0);
    let mut bodies = vec![killer];
    // Retried twice, so that their receives are accounted for.
    bodies.extend(bench.give(&orders([("gather", "work"), ("gather", "work")])).await);
    bench.client.batch_execute("update switchyard.agent set max_attempts = 9").await.unwrap();
    bench
        .client
        .batch_execute(
            "insert into switchyard.delivery (agent, run, seq, owner, state, attempts, next_attempt_at)
         select a.id, 0, l.seq, 'n', 'f', 3, now() from switchyard.agent a, switchyard.event_log l
          where l.seq > (select min(seq) from switchyard.event_log)",
        )
        .await
        .unwrap();

    assert_eq!(bench.handle_received(&bodies, 4, PLENTY).await, None);

    assert_eq!((bench.states().await, bench.count("done").await), ("add".to_owned(), 2));
}

#[tokio::test]
async fn innocents_that_a_long_outage_has_returned_often_all_come_through() {
    let bench = Bench::new(Mode::Full).await;
    let bodies = bench.give(&orders([("gather", "work"); 10])).await;

    assert_eq!(bench.handle_received(&bodies, 90, PLENTY).await, Some(vec![]));

    assert_eq!((bench.count("done").await, bench.queues.dead_letters().len()), (10, 0));
}

#[tokio::test]
async fn a_returned_record_is_reported_to_the_ledger_and_is_no_suspect() {
    let bench = Bench::new(Mode::Full).await;
    let bodies = bench.give(&orders([("gather", "work"); 2])).await;
    bench.store.force_breaker("obedient", Some(BreakerState::Open), "a person").await.unwrap();
    for receives in 1..=9 {
        assert_eq!(bench.handle_received(&bodies, receives, PLENTY).await, Some(vec![0, 1]));
    }
    assert_eq!(bench.count("switchyard.delivery where returns = 9 and sends = 0").await, 2);
    bench.store.force_breaker("obedient", Some(BreakerState::Closed), "a person").await.unwrap();

    assert_eq!(bench.handle_received(&bodies, 10, PLENTY).await, Some(vec![]));

    assert_eq!(bench.count("switchyard.delivery where deaths > 0").await, 0, "nobody was tried alone");
    assert_eq!(bench.count("done").await, 2);
}

#[tokio::test]
async fn returns_during_an_outage_of_the_ledger_are_reported_afterwards() {
    let bench = Bench::new(Mode::Full).await;
    let bodies = bench.give(&orders([("gather", "retry"), ("gather", "retry")])).await;
    let worker = bench.worker();
    let handle = async |at: usize| again(worker.handle(batch(&bodies[at..=at], 1), Instant::now() + PLENTY).await);
    bench.client.batch_execute("alter function switchyard.preview(text, uuid[], int[]) rename to gone").await.unwrap();
    assert_eq!(handle(0).await, [0]);
    bench.client.batch_execute("alter function switchyard.gone(text, uuid[], int[]) rename to preview").await.unwrap();

    assert_eq!(handle(1).await, [0]);

    assert_eq!(bench.count("switchyard.delivery where returns = 1").await, 1);
}

#[tokio::test]
async fn a_death_that_did_not_come_and_could_not_be_cleared_is_cleared_with_the_next_batch() {
    let bench = Bench::new(Mode::Full).await;
    let bodies = bench.give(&orders([("gather", "be out of luck"), ("gather", "work")])).await;
    let worker = bench.worker();
    let handle = async |at: usize, receives| {
        again(worker.handle(batch(&bodies[at..=at], receives), Instant::now() + PLENTY).await)
    };
    bench.client.batch_execute("alter function switchyard.survived(text, uuid[], int[]) rename to gone").await.unwrap();
    assert_eq!(handle(0, 20).await, [0]);
    assert_eq!(bench.count("switchyard.delivery where deaths = 1").await, 1);
    bench.client.batch_execute("alter function switchyard.gone(text, uuid[], int[]) rename to survived").await.unwrap();

    assert!(handle(1, 1).await.is_empty());

    assert_eq!(bench.count("switchyard.delivery where deaths > 0").await, 0);
}

#[tokio::test]
async fn in_shadow_mode_that_it_kills_its_process_is_what_is_compared() {
    let bench = Bench::new(Mode::Shadow).await;
    let bodies = bench.give(&orders([("gather", "kill")])).await;
    for receives in 4..=6 {
        assert_eq!(bench.handle_received(&bodies, receives, PLENTY).await, None);
    }

    assert_eq!(bench.handle_received(&bodies, 7, PLENTY).await, Some(vec![]));

    assert!(bench.queues.dead_letters().is_empty(), "the old system's events fill no dead-letter queue");
    assert_eq!(bench.count("switchyard.shadow where decision::text like '%process_died%'").await, 1);
}

#[tokio::test]
async fn a_suspect_that_ends_in_an_orderly_way_is_cleared() {
    let bench = Bench::new(Mode::Full).await;
    let bodies = bench.give(&orders([("gather", "panic")])).await;

    assert_eq!(bench.handle_received(&bodies, 20, PLENTY).await, Some(vec![0]));

    assert_eq!(bench.count("switchyard.delivery where deaths = 0 and attempts = 1 and state = 'f'").await, 1);
}

#[tokio::test]
async fn what_does_not_fit_into_the_time_is_returned_without_having_been_counted() {
    let bench = Bench::new(Mode::Full).await;
    let bodies = bench.give(&orders([("gather", "work"); 2])).await;

    assert_eq!(bench.handle_received(&bodies, 20, Duration::from_secs(11)).await, Some(vec![0, 1]));

    assert_eq!((bench.agent.gathered.get(), bench.count("switchyard.delivery where deaths > 0").await), (0, 0));
}

#[tokio::test]
async fn redriven_it_has_three_lives_again() {
    let bench = Bench::new(Mode::Full).await;
    let bodies = bench.give(&orders([("gather", "kill")])).await;
    for receives in 4..=6 {
        assert_eq!(bench.handle_received(&bodies, receives, PLENTY).await, None);
    }
    assert_eq!(bench.handle_received(&bodies, 7, PLENTY).await, Some(vec![]));
    let redriven = bench.store.redrive("obedient", &Selection::default(), 0, "a person", "more memory").await.unwrap();
    assert_eq!(redriven.len(), 1);

    for receives in 8..=10 {
        assert_eq!(bench.handle_received(&bodies, receives, PLENTY).await, None, "tried again");
    }
    assert_eq!(bench.handle_received(&bodies, 11, PLENTY).await, Some(vec![]));
    assert_eq!(bench.reasons(), ["process_died", "process_died"]);
}
