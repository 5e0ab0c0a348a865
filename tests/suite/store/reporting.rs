//! Attempts that did not succeed: fail, park, and reports that are void.

use switchyard_store::{Ask, Failed, Mode, State, Verdict};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::AGENT;

directly_and_pooled! {
    async fn a_failure_before_any_claim_writes_the_row_and_counts_an_attempt(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let reported = world.fail(event).await;
        assert!(reported.counted);
        assert_eq!((reported.state, reported.attempts, reported.max_attempts), (Some(State::Failing), 1, 4));
        assert!(!reported.exhausted());
        let row = world.one("select component, attempt, parked, reason, error from switchyard.failure", &[]).await;
        assert_eq!((row.get::<_, &str>(0), row.get::<_, i32>(1), row.get::<_, bool>(2)), (AGENT, 1, false));
        assert_eq!((row.get::<_, &str>(3), row.get::<_, &str>(4)), ("boom", "it went boom"));
    }

    async fn attempts_are_used_up_but_never_parked_by_themselves(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        for attempt in 1..=4 {
            let reported = world.fail(event).await;
            assert_eq!(reported.attempts, attempt);
            assert_eq!(reported.exhausted(), attempt == 4);
        }
        assert!(world.row(event).await.is("n", "f"));
        let parked = world.park(event).await;
        assert_eq!((parked.counted, parked.state, parked.attempts), (true, Some(State::Parked), 4));
    }

    async fn a_permanent_failure_parks_at_once_with_its_one_attempt(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let parked = world.park(event).await;
        assert_eq!((parked.counted, parked.state, parked.attempts), (true, Some(State::Parked), 1));
    }

    async fn parking_twice_changes_nothing(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.park(event).await;
        let again = world.park(event).await;
        assert_eq!((again.counted, again.state), (false, Some(State::Parked)));
        assert_eq!(world.number("select count(*) from switchyard.failure").await, 1);
    }

    async fn a_report_on_what_is_settled_is_void(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.claim(event).await;
        for reported in [world.fail(event).await, world.park(event).await] {
            assert_eq!((reported.counted, reported.state), (false, Some(State::Done)));
        }
        assert!(world.row(event).await.is("n", "d"));
    }

    async fn a_report_from_the_side_that_does_not_own_the_row_is_void(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let event = world.event("thing.made").await;
        assert!(!world.fail(event).await.counted);
        assert!(!world.park(event).await.counted);
        let row = world.row(event).await;
        assert!(row.is("o", "a"));
        assert_eq!(row.attempts, 0);
    }

    async fn a_report_from_an_older_epoch_is_void(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.fail(event).await;
        world.resend(event, 0).await;
        assert!(!world.fail_as(event, 0, Some(0)).await.counted);
        assert!(!world.park_as(event, 0, Some(0)).await.counted);
        assert!(world.row(event).await.is("n", "a"));
        assert!(world.fail_as(event, 0, Some(1)).await.counted);
    }

    async fn an_unknown_event_is_parked_with_a_trace_and_no_row(world: LedgerWorld) {
        let event = Uuid::new_v4();
        let reported = world.park(event).await;
        assert_eq!((reported.counted, reported.state), (false, None));
        let row = world.one("select event_id, seq, parked from switchyard.failure", &[]).await;
        assert_eq!((row.get::<_, Uuid>(0), row.get::<_, Option<i64>>(1), row.get::<_, bool>(2)), (event, None, true));
    }

    async fn an_event_that_is_too_old_is_parked_with_a_trace_and_no_row(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.run_sql("update switchyard.floor set seq = 1000").await;
        assert_eq!(world.park(event).await.state, None);
        assert_eq!(world.number("select count(*) from switchyard.failure where parked").await, 1);
        assert_eq!(world.number("select count(*) from switchyard.late").await, 1);
        assert!(world.delivery(event, 0).await.is_none());
    }

    async fn a_failure_of_an_unknown_event_is_void(world: LedgerWorld) {
        let reported = world.fail(Uuid::new_v4()).await;
        assert_eq!((reported.counted, reported.state), (false, None));
    }

    async fn a_batch_of_reports_is_answered_in_its_order_and_copies_count_once(world: LedgerWorld) {
        let second = world.event("thing.made").await;
        let first = world.event("thing.made").await;
        let done = world.event("thing.made").await;
        world.claim(done).await;
        let failed = |event| Failed { ask: Ask::live(event), reason: "boom".into(), error: "a \0 in the middle".into(), delay_ms: 0 };
        let reported = world.store.fail(AGENT, &[first, done, second, first].map(failed)).await.unwrap();
        assert_eq!(reported.iter().map(|r| r.event_id).collect::<Vec<_>>(), [first, done, second, first]);
        assert_eq!(reported.iter().map(|r| r.counted).collect::<Vec<_>>(), [true, false, true, true]);
        assert_eq!(world.row(first).await.attempts, 1);
        assert!(world.store.fail(AGENT, &[]).await.unwrap().is_empty());
    }

    async fn a_failed_delivery_is_due_only_after_its_delay_and_the_grace(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.publish_all().await;
        world.fail(event).await;
        assert!(world.due().await.is_empty());
        let wait: f64 = world.one("select extract(epoch from next_attempt_at - now())::float8 from switchyard.delivery", &[]).await.get(0);
        assert!((115.0..=121.0).contains(&wait), "1 s of delay and 120 s of grace, not {wait}");
        world.let_time_pass().await;
        assert_eq!(world.due().await, [(event, 0, 0)]);
    }

    async fn the_old_system_fails_and_parks_its_own(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let event = world.event("thing.made").await;
        world.run_sql(&format!("select switchyard.fail('{AGENT}', '{event}', 'hm')")).await;
        assert!(world.row(event).await.is("o", "f"));
        assert_eq!(world.old_claim(event).await, "take");
        let other = world.event("thing.made").await;
        world.run_sql(&format!("select switchyard.park('{AGENT}', '{other}', 'hm')")).await;
        assert!(world.row(other).await.is("o", "p"));
        assert_eq!(world.claim(other).await, Verdict::Parked);
    }

    async fn what_a_handler_parks_in_its_transaction_leaves_a_trace(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.settle(event, switchyard_store::Settlement::Parked).await;
        assert!(world.row(event).await.is("n", "p"));
        assert_eq!(world.number("select count(*) from switchyard.failure where parked and reason = 'because'").await, 1);
    }

    async fn a_delay_beyond_all_bounds_counts_as_the_longest_that_a_queue_can_hold(world: LedgerWorld) {
        let [event, other] = [world.event("thing.made").await, world.event("thing.made").await];
        let failed = |event, delay_ms| Failed { ask: Ask::live(event), reason: "throttled".into(), error: String::new(), delay_ms };
        let reported = world.store.fail(AGENT, &[failed(event, u64::MAX), failed(other, 0)]).await.unwrap();
        assert!(reported.iter().all(|r| r.counted), "one record never fails the report of its batch");
        let wait: f64 = world.one("select max(extract(epoch from next_attempt_at - now()))::float8 from switchyard.delivery", &[]).await.get(0);
        assert!((43_310.0..=43_321.0).contains(&wait), "twelve hours and the grace, not {wait}");
    }
}
