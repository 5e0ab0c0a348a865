//! Every verdict, foretold by `look` and given by `claim`, and what claiming does to the row.

use switchyard_store::{Ask, Mode, Settlement, StoreError, Verdict};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::{AGENT, old_claim_in};

directly_and_pooled! {
    async fn an_event_without_a_delivery_is_taken_and_done_with_the_commit(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        assert_eq!(world.preview(event).await.verdict, Verdict::Take);
        assert!(world.delivery(event, 0).await.is_none(), "looking writes nothing");
        assert_eq!(world.claim(event).await, Verdict::Take);
        assert!(world.row(event).await.is("n", "d"));
    }

    async fn a_claim_that_is_rolled_back_never_happened(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let mut tx = world.store.begin().await.unwrap();
        assert_eq!(tx.claim(AGENT, &[Ask::live(event)]).await.unwrap()[0].verdict, Verdict::Take);
        tx.rollback().await.unwrap();
        assert!(world.delivery(event, 0).await.is_none());
        assert_eq!(world.claim(event).await, Verdict::Take);
    }

    async fn what_is_settled_is_already_done(world: LedgerWorld) {
        let done = world.event("thing.made").await;
        world.claim(done).await;
        let superseded = world.event("thing.made").await;
        world.settle(superseded, Settlement::Superseded).await;
        let expired = world.event("thing.made").await;
        world.settle(expired, Settlement::Expired).await;
        for event in [done, superseded, expired] {
            assert_eq!(world.preview(event).await.verdict, Verdict::AlreadyDone);
            assert_eq!(world.claim(event).await, Verdict::AlreadyDone);
        }
        assert!(world.row(superseded).await.is("n", "s"));
        assert!(world.row(expired).await.is("n", "e"));
    }

    async fn a_parked_event_stays_parked(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.park(event).await;
        assert_eq!(world.preview(event).await.verdict, Verdict::Parked);
        assert_eq!(world.claim(event).await, Verdict::Parked);
        assert!(world.row(event).await.is("n", "p"));
    }

    async fn a_failing_event_is_taken(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.fail(event).await;
        assert_eq!(world.preview(event).await.verdict, Verdict::Take);
        assert_eq!(world.claim(event).await, Verdict::Take);
        let row = world.row(event).await;
        assert!(row.is("n", "d"));
        assert_eq!(row.attempts, 1, "what it cost stays on record");
    }

    async fn the_old_systems_event_is_not_yours(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let event = world.event("thing.made").await;
        assert_eq!(world.preview(event).await.verdict, Verdict::NotYours);
        assert_eq!(world.claim(event).await, Verdict::NotYours);
        assert!(world.row(event).await.is("o", "a"));
        assert_eq!(world.old_claim(event).await, "take");
        assert!(world.row(event).await.is("o", "d"));
        assert_eq!(world.claim(event).await, Verdict::AlreadyDone);
    }

    async fn in_shadow_mode_the_old_systems_event_is_shadowed_also_when_it_is_done_or_parked(world: LedgerWorld) {
        world.routing(Mode::Shadow).await;
        let event = world.event("thing.made").await;
        assert_eq!(world.preview(event).await.verdict, Verdict::Shadow);
        assert_eq!(world.claim(event).await, Verdict::Shadow);
        assert_eq!(world.old_claim(event).await, "take");
        assert_eq!(world.preview(event).await.verdict, Verdict::Shadow);
        assert_eq!(world.claim(event).await, Verdict::Shadow);
        assert!(world.row(event).await.is("o", "d"));
        let parked = world.event("thing.made").await;
        world.run_sql(&format!("select switchyard.park('{AGENT}', '{parked}', 'no good')")).await;
        assert!(world.row(parked).await.is("o", "p"));
        assert_eq!(world.claim(parked).await, Verdict::Shadow);
    }

    async fn in_shadow_mode_what_the_new_agent_already_owns_goes_on(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.fail(event).await;
        world.routing(Mode::Shadow).await;
        assert_eq!(world.claim(event).await, Verdict::Take);
    }

    async fn a_type_that_the_agent_does_not_listen_to_is_not_subscribed(world: LedgerWorld) {
        let event = world.event("thing.sold").await;
        assert_eq!(world.preview(event).await.verdict, Verdict::NotSubscribed);
        assert_eq!(world.claim(event).await, Verdict::NotSubscribed);
        assert_eq!(world.old_claim(event).await, "not_subscribed");
        assert!(world.delivery(event, 0).await.is_none());
    }

    async fn an_event_that_is_not_in_the_log_is_unknown(world: LedgerWorld) {
        let event = Uuid::new_v4();
        let standing = world.preview(event).await;
        assert_eq!((standing.verdict, standing.seq), (Verdict::Unknown, None));
        assert_eq!(world.claim(event).await, Verdict::Unknown);
        assert_eq!(world.old_claim(event).await, "unknown");
    }

    async fn a_replay_that_never_chose_the_event_is_an_unknown_run(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        assert_eq!(world.claim_run(event, 7).await, Verdict::UnknownRun);
        assert!(world.delivery(event, 7).await.is_none(), "a claim never creates a replay's row");
        assert!(world.delivery(event, 0).await.is_none());
    }

    async fn an_event_from_below_the_floor_is_too_old_and_its_coming_is_counted(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.run_sql("update switchyard.floor set seq = 1000").await;
        assert_eq!(world.preview(event).await.verdict, Verdict::TooOld);
        assert_eq!(world.claim(event).await, Verdict::TooOld);
        assert_eq!(world.claim(event).await, Verdict::TooOld);
        assert_eq!(world.number("select sum(n) from switchyard.late").await, 2);
        assert!(world.delivery(event, 0).await.is_none());
    }

    async fn a_batch_is_answered_in_the_order_of_its_questions(world: LedgerWorld) {
        let third = world.event("thing.made").await;
        let first = world.event("thing.changed").await;
        let done = world.event("thing.made").await;
        world.claim(done).await;
        let unknown = Uuid::new_v4();
        let asks = [first, unknown, third, done, first].map(Ask::live);
        let mut tx = world.store.begin().await.unwrap();
        let answers = tx.claim(AGENT, &asks).await.unwrap();
        tx.commit().await.unwrap();
        let verdicts: Vec<Verdict> = answers.iter().map(|s| s.verdict).collect();
        use Verdict::{AlreadyDone, Take, Unknown};
        assert_eq!(verdicts, [Take, Unknown, Take, AlreadyDone, AlreadyDone], "of two copies in a batch the first gets it");
        assert_eq!(answers[0].seq, Some(world.seq(first).await));
        assert_eq!(answers.iter().map(|s| s.event_id).collect::<Vec<_>>(), asks.clone().map(|a| a.event_id));
    }

    async fn an_empty_batch_is_answered_with_nothing(world: LedgerWorld) {
        assert!(world.store.preview(AGENT, &[]).await.unwrap().answers.is_empty());
        let mut tx = world.store.begin().await.unwrap();
        assert!(tx.claim(AGENT, &[]).await.unwrap().is_empty());
        tx.commit().await.unwrap();
    }

    async fn a_second_claim_waits_for_the_first_and_then_finds_it_done(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let mut first = world.store.begin().await.unwrap();
        assert_eq!(first.claim(AGENT, &[Ask::live(event)]).await.unwrap()[0].verdict, Verdict::Take);
        let mut second = world.store.begin().await.unwrap();
        let asks = [Ask::live(event)];
        let commit_when_someone_waits = async {
            world.lock_is_awaited().await;
            first.commit().await.unwrap();
        };
        let (answers, ()) = tokio::join!(second.claim(AGENT, &asks), commit_when_someone_waits);
        assert_eq!(answers.unwrap()[0].verdict, Verdict::AlreadyDone);
        second.commit().await.unwrap();
    }

    async fn the_events_own_number_of_attempts_wins_within_reason(world: LedgerWorld) {
        for (metadata, expected) in [("{}", 4), (r#"{"max_attempts": 9}"#, 9), (r#"{"max_attempts": 0}"#, 1), (r#"{"max_attempts": 4711}"#, 100),
            (r#"{"max_attempts": "many"}"#, 4), (r#"{"max_attempts": -3}"#, 4), (r#"{"max_attempts": 99999999999999999999}"#, 4)] {
            let event = world.event_with("thing.made", Uuid::new_v4(), metadata).await;
            assert_eq!(world.preview(event).await.max_attempts, expected, "{metadata}");
        }
    }

    async fn an_agent_that_was_never_registered_is_a_matter_of_configuration(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let inspected = world.store.preview("nobody", &[Ask::live(event)]).await.unwrap_err();
        assert!(matches!(&inspected, StoreError::Config { problem, .. } if problem.contains("nobody")), "{inspected}");
        let mut tx = world.store.begin().await.unwrap();
        assert!(matches!(tx.claim("nobody", &[Ask::live(event)]).await, Err(StoreError::Config { .. })));
    }

    async fn settling_what_was_not_claimed_in_this_transaction_is_refused(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.claim(event).await;
        let mut tx = world.store.begin().await.unwrap();
        let refused = tx.settle(AGENT, &[Ask::live(event)], Settlement::Superseded, "late").await;
        assert!(matches!(refused, Err(StoreError::Bug { .. })), "{refused:?}");
        drop(tx);
        assert!(world.row(event).await.is("n", "d"));
    }

    async fn the_old_system_cannot_claim_outside_a_transaction(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let refused = world.side.batch_execute(&format!("select switchyard.claim('{AGENT}', '{event}')")).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "SY003");
        assert!(world.delivery(event, 0).await.is_none());
    }

    async fn a_claim_in_a_stricter_isolation_is_refused(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.run_sql("begin isolation level repeatable read").await;
        let refused = world.side.batch_execute(&format!("select switchyard.claim('{AGENT}', '{event}')")).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "SY003");
        world.run_sql("rollback").await;
    }

    async fn an_old_claim_that_is_rolled_back_leaves_the_event_to_be_claimed(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let event = world.event("thing.made").await;
        let mut tx = world.store.begin().await.unwrap();
        assert_eq!(old_claim_in(&mut tx, event).await.unwrap(), "take");
        tx.rollback().await.unwrap();
        assert_eq!(world.old_claim(event).await, "take");
    }

    async fn a_row_that_appears_while_a_claim_is_under_way_is_asked_again_and_not_taken(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.fail(event).await;
        // What a claim sees at its end when it did not settle this row: it was written between two of its statements.
        let sql = format!("select verdict from switchyard._claim_answers(switchyard.agent_named('{AGENT}'), array['{event}']::uuid[], array[0], 'n', '{{}}', '{{}}')");
        let refused = world.side.query(&sql, &[]).await.unwrap_err();
        assert_eq!(refused.code().map(|c| c.code()), Some("40001"), "{refused:?}");
        assert_eq!(world.claim(event).await, Verdict::Take);
    }

    async fn an_old_systems_function_may_claim_and_work_in_one_statement(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let [event, other] = [world.event("thing.made").await, world.event("thing.made").await];
        world.run_sql(&format!("create function job(event uuid) returns text language plpgsql as $$ begin return switchyard.claim('{AGENT}', event); end $$")).await;
        let answer: String = world.one(&format!("select job('{event}')"), &[]).await.get(0);
        assert_eq!(answer, "take");
        world.run_sql(&format!("do $$ begin perform switchyard.claim('{AGENT}', '{other}'); end $$")).await;
        assert!(world.row(other).await.is("o", "d"));
    }

    async fn an_old_systems_claim_through_an_http_gateway_is_refused(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let event = world.event("thing.made").await;
        // What PostgREST sends: settings, then the call, then its own commit.
        world.run_sql("begin").await;
        world.run_sql("select set_config('request.method', 'POST', true)").await;
        let refused = world.side.batch_execute(&format!("select switchyard.claim('{AGENT}', '{event}')")).await.unwrap_err();
        world.run_sql("rollback").await;
        assert_eq!(refused.code().map(|c| c.code()), Some("SY003"));
        assert!(world.delivery(event, 0).await.is_none());
    }
}
