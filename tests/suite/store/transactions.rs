//! A transaction that cannot commit what it should not, and what errors say.

use std::collections::HashSet;
use switchyard_store::{AppendEvent, Ask, DatabaseUrl, Mode, Overwrite, Store, StoreError, Type, Verdict};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::{AGENT, spec};

fn event_of(payload: &str) -> AppendEvent {
    AppendEvent {
        id: Uuid::new_v4(),
        event_type: "thing.made".into(),
        aggregate_type: "thing".into(),
        aggregate_id: Uuid::new_v4().to_string(),
        payload: payload.into(),
        version: 1,
        metadata: "{}".into(),
    }
}

directly_and_pooled! {
    async fn after_a_failed_statement_a_commit_is_refused_and_nothing_is_kept(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let mut tx = world.store.begin().await.unwrap();
        assert_eq!(tx.claim(AGENT, &[Ask::live(event)]).await.unwrap()[0].verdict, Verdict::Take);
        assert!(matches!(tx.execute("select 1 / 0", &[]).await, Err(StoreError::Refused { .. })));
        assert!(matches!(tx.query("select 1", &[]).await, Err(StoreError::Bug { .. })), "lost, whatever is tried");
        assert!(matches!(tx.commit().await, Err(StoreError::Bug { .. })));
        assert!(world.delivery(event, 0).await.is_none());
    }

    async fn a_statement_that_was_abandoned_half_way_makes_the_commit_refuse(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let mut tx = world.store.begin().await.unwrap();
        tx.claim(AGENT, &[Ask::live(event)]).await.unwrap();
        {
            let slow = tx.query("select pg_sleep(0.05)", &[]);
            tokio::select! { biased; _ = slow => panic!("too quick"), () = std::future::ready(()) => {} }
        }
        assert!(matches!(tx.commit().await, Err(StoreError::Bug { .. })));
        assert!(world.delivery(event, 0).await.is_none());
    }

    async fn dropping_rolls_back_and_the_next_user_of_the_connection_starts_clean(world: LedgerWorld) {
        for round in 0..20 {
            let event = world.event("thing.made").await;
            let mut tx = world.store.begin().await.unwrap();
            tx.claim(AGENT, &[Ask::live(event)]).await.unwrap();
            if round % 2 == 0 {
                let _ = tx.query("no sql at all", &[]).await;
            }
            drop(tx);
            assert_eq!(world.claim(event).await, Verdict::Take);
        }
    }

    async fn an_empty_transaction_commits_and_rolls_back(world: LedgerWorld) {
        world.store.begin().await.unwrap().commit().await.unwrap();
        world.store.begin().await.unwrap().rollback().await.unwrap();
        drop(world.store.begin().await.unwrap());
    }

    async fn effects_and_new_events_commit_with_the_claim_or_not_at_all(world: LedgerWorld) {
        world.run_sql("create table picture (event uuid)").await;
        let event = world.event("thing.made").await;
        for commit in [false, true] {
            let mut tx = world.store.begin().await.unwrap();
            assert_eq!(tx.claim(AGENT, &[Ask::live(event)]).await.unwrap()[0].verdict, Verdict::Take);
            assert_eq!(tx.execute("insert into picture values ($1)", &[(&event, Type::UUID)]).await.unwrap(), 1);
            assert_eq!(tx.append(&[event_of("{}")]).await.unwrap(), 1);
            if commit { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
            let kept = i64::from(commit);
            assert_eq!(world.number("select count(*) from picture").await, kept);
            assert_eq!(world.number("select count(*) from events").await, 1 + kept);
            assert_eq!(world.number("select count(*) from switchyard.event_log").await, 1 + kept);
        }
    }

    async fn an_appended_event_keeps_its_payload_and_gets_a_timestamp(world: LedgerWorld) {
        let event = event_of(r#"{"b": 1.00, "a": "é 😀 \" \\", "n": 18446744073709551617}"#);
        let stamped = AppendEvent { metadata: r#"{"timestamp": "2020-01-01T00:00:00Z", "mine": 1}"#.into(), ..event_of("{}") };
        let mut tx = world.store.begin().await.unwrap();
        assert_eq!(tx.append(&[event.clone(), stamped.clone(), event.clone()]).await.unwrap(), 2);
        assert_eq!(tx.append(&[event.clone(), stamped.clone()]).await.unwrap(), 0, "a repetition");
        assert_eq!(tx.append(&[]).await.unwrap(), 0);
        tx.commit().await.unwrap();
        let pending = world.pending(10).await;
        assert_eq!(pending.iter().map(|p| p.id).collect::<Vec<_>>(), [event.id, stamped.id], "in the order given");
        assert_eq!(pending[0].payload.as_deref(), Some(r#"{"a": "é 😀 \" \\", "b": 1.00, "n": 18446744073709551617}"#));
        assert!(pending[0].metadata.as_ref().unwrap().contains("timestamp"));
        assert_eq!(pending[1].metadata.as_deref(), Some(r#"{"mine": 1, "timestamp": "2020-01-01T00:00:00Z"}"#));
    }

    async fn an_event_whose_id_exists_with_other_content_is_refused(world: LedgerWorld) {
        let event = event_of("{}");
        let mut tx = world.store.begin().await.unwrap();
        tx.append(std::slice::from_ref(&event)).await.unwrap();
        tx.commit().await.unwrap();
        for other in [
            AppendEvent { payload: "0".into(), ..event.clone() },
            AppendEvent { metadata: r#"{"project_id": "p2"}"#.into(), ..event.clone() },
            AppendEvent { version: 2, ..event.clone() },
        ] {
            let mut tx = world.store.begin().await.unwrap();
            let refused = tx.append(&[event_of("{}"), other]).await.unwrap_err();
            assert!(refused.is_forged(), "{refused:?}");
        }
        assert_eq!(world.number("select count(*) from events").await, 1);
    }

    async fn what_the_table_cannot_hold_is_refused_as_the_callers_data(world: LedgerWorld) {
        for bad in [
            event_of(r#"{"a": "\u0000"}"#),
            event_of("not json"),
            AppendEvent { aggregate_id: "no uuid".into(), ..event_of("{}") },
        ] {
            let mut tx = world.store.begin().await.unwrap();
            let refused = tx.append(std::slice::from_ref(&bad)).await.unwrap_err();
            assert!(matches!(&refused, StoreError::Refused { .. }), "{refused}");
            assert!(!refused.to_string().contains("u0000") && !refused.to_string().contains("no uuid"), "no value in the text");
        }
    }

    async fn wrong_sql_is_a_mistake_in_the_program(world: LedgerWorld) {
        assert!(matches!(world.store.query("select from from", &[]).await, Err(StoreError::Bug { .. })));
        assert!(matches!(world.store.query("select * from not_there", &[]).await, Err(StoreError::Bug { .. })));
    }

    async fn a_killed_backend_is_unavailable_and_the_store_goes_on_with_another(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let mut tx = world.store.begin().await.unwrap();
        tx.claim(AGENT, &[Ask::live(event)]).await.unwrap();
        let pid: i32 = tx.query("select pg_backend_pid()", &[]).await.unwrap()[0].get(0);
        world.run_sql(&format!("select pg_terminate_backend({pid}, 5000)")).await;
        let lost = tx.commit().await.unwrap_err();
        assert!(lost.is_unavailable(), "{lost}");
        assert_eq!(world.claim(event).await, Verdict::Take);
    }

    async fn a_deadlock_is_a_conflict(world: LedgerWorld) {
        world.run_sql("create table pot (id int primary key); insert into pot values (1), (2)").await;
        let mut one = world.store.begin().await.unwrap();
        let mut two = world.store.begin().await.unwrap();
        one.execute("update pot set id = id where id = 1", &[]).await.unwrap();
        two.execute("update pot set id = id where id = 2", &[]).await.unwrap();
        let (a, b) = tokio::join!(
            one.execute("update pot set id = id where id = 2", &[]),
            async { let r = two.execute("update pot set id = id where id = 1", &[]).await; drop(two); r });
        let errors: Vec<StoreError> = [a, b].into_iter().filter_map(Result::err).collect();
        assert_eq!(errors.len(), 1);
        assert!(errors[0].is_conflict(), "{}", errors[0]);
    }

    async fn an_older_sequence_is_too_late_and_the_same_passes_again(world: LedgerWorld) {
        let other = switchyard_store::AgentSpec { name: "other".into(), ..spec(&["thing.made"]) };
        world.store.register(&other, Mode::Full, switchyard_store::Since::Now).await.unwrap();
        let mut tx = world.store.begin().await.unwrap();
        for (agent, thing, seq, late) in [
            (AGENT, "1", 5, false),
            (AGENT, "1", 5, false),
            (AGENT, "1", 4, true),
            (AGENT, "1", 6, false),
            (AGENT, "2", 1, false),
            ("other", "1", 1, false),
        ] {
            let answer = tx.superseded(agent, &[overwrite(0, thing, seq)]).await.unwrap();
            assert_eq!(answer.len(), usize::from(late), "{agent} {thing} {seq}");
        }
        tx.rollback().await.unwrap();
        let mut tx = world.store.begin().await.unwrap();
        assert!(tx.superseded(AGENT, &[overwrite(0, "1", 5)]).await.unwrap().is_empty(), "a rollback forgets");
        let unknown = tx.superseded("nobody", &[overwrite(0, "1", 5)]).await;
        assert!(matches!(unknown, Err(StoreError::Config { .. })), "{unknown:?}");
    }

    async fn the_records_of_a_batch_that_are_too_late_are_found_in_one_statement(world: LedgerWorld) {
        let mut tx = world.store.begin().await.unwrap();
        assert!(tx.superseded(AGENT, &[overwrite(0, "1", 5)]).await.unwrap().is_empty());
        let batch = [
            overwrite(0, "1", 4),
            overwrite(1, "1", 6),
            overwrite(2, "1", 7),
            overwrite(3, "2", -3),
            // One record with two states, one of which is newer.
            overwrite(4, "3", 9),
            overwrite(4, "1", 2),
        ];
        assert_eq!(tx.superseded(AGENT, &batch).await.unwrap(), HashSet::from([0, 4]));
        assert_eq!(tx.superseded(AGENT, &[overwrite(0, "1", 6)]).await.unwrap().len(), 1, "7 is remembered");
        assert!(tx.superseded(AGENT, &[overwrite(0, "3", 1)]).await.unwrap().is_empty(), "and nothing of a late record");
        assert!(tx.superseded(AGENT, &[]).await.unwrap().is_empty());
        tx.commit().await.unwrap();
    }

    async fn batches_that_overwrite_the_same_states_in_another_order_wait_for_each_other(world: LedgerWorld) {
        let things: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let gate = async |forward: bool| {
            let mut batch: Vec<_> = things.iter().enumerate().map(|(n, thing)| overwrite(n, thing, 1)).collect();
            if !forward {
                batch.reverse();
            }
            let mut tx = world.store.begin().await?;
            tx.superseded(AGENT, &batch).await?;
            tx.commit().await
        };
        for _ in 0..10 {
            let (one, other) = tokio::join!(gate(true), gate(false));
            assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
        }
    }

    async fn a_shadow_decision_is_kept_and_a_repetition_counted(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        for decision in [r#"{"paint": "red"}"#, r#"{"paint": "\u0000"}"#] {
            let mut tx = world.store.begin().await.unwrap();
            tx.shadow(AGENT, &[(Ask::live(event), decision.to_owned())]).await.unwrap();
            tx.commit().await.unwrap();
        }
        let row = world.one("select times, decision::text from switchyard.shadow", &[]).await;
        assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (2, r#"{"paint": "\u0000"}"#));
    }

    async fn an_internal_error_of_the_database_is_not_taken_for_a_conflict(world: LedgerWorld) {
        let raise = "do $$ begin raise exception 'corruption' using errcode = 'XX000'; end $$";
        let failed = world.store.query(raise, &[]).await.unwrap_err();
        assert!(matches!(failed, StoreError::Bug { .. }), "{failed:?}");
    }
}

/// That a record overwrites a thing.
const fn overwrite(record: usize, aggregate_id: &str, seq: i64) -> Overwrite<'_> {
    Overwrite { record, aggregate_type: "thing", aggregate_id, seq }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_unavailable() {
    let url: DatabaseUrl = "postgresql://nobody@127.0.0.1:1/nothing".parse().unwrap();
    let store = Store::open(&url, 1).unwrap();
    assert!(store.preview(AGENT, &[Ask::live(Uuid::new_v4())]).await.unwrap_err().is_unavailable());
    assert!(store.begin().await.err().unwrap().is_unavailable());
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_a_matter_of_configuration() {
    let admin = switchyard_tests::database::admin_url();
    let url = admin.rsplit_once('/').unwrap().0.to_owned() + "/there_is_no_such_database";
    let store = Store::open(&url.parse().unwrap(), 1).unwrap();
    assert!(matches!(store.agents().await, Err(StoreError::Config { .. })));
}
