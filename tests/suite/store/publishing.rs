//! `switchyard.publish`, for the application.

use switchyard_store::{Mode, Publication, StoreError, Type, Verdict};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::LedgerWorld;

async fn publish(world: &LedgerWorld, arguments: &str) -> Uuid {
    let sql = format!(
        "select switchyard.publish('thing.made', 'thing', '{}', '{{\"a\": 1}}'{arguments})",
        Uuid::from_u128(7)
    );
    world.store.query(&sql, &[]).await.unwrap()[0].get(0)
}

directly_and_pooled! {
    async fn publishing_appends_an_event_that_is_pending(world: LedgerWorld) {
        let id = publish(&world, ", project_id => 'p1', metadata => '{\"user_id\": \"u\"}', version => 3").await;
        let pending = world.pending(10).await.remove(0);
        assert_eq!((pending.id, pending.event_type.as_str(), pending.version), (id, "thing.made", Some(3)));
        assert_eq!((pending.payload.as_deref(), pending.project_id.as_deref()), (Some("{\"a\": 1}"), Some("p1")));
        let metadata: serde_json::Value = serde_json::from_str(pending.metadata.as_ref().unwrap()).unwrap();
        assert_eq!(metadata["user_id"], "u");
        assert_eq!(metadata["project_id"], "p1");
        assert!(metadata["timestamp"].as_str().unwrap().ends_with('Z'));
        assert!(metadata.get("idempotency_key").is_none() && metadata.get("correlation_id").is_none());
    }

    async fn the_same_key_is_the_same_event_within_a_project_and_a_type(world: LedgerWorld) {
        let first = publish(&world, ", project_id => 'p1', idempotency_key => 'k'").await;
        assert_eq!(publish(&world, ", project_id => 'p1', idempotency_key => 'k'").await, first);
        assert_ne!(publish(&world, ", project_id => 'p2', idempotency_key => 'k'").await, first);
        assert_ne!(publish(&world, ", project_id => 'p1', idempotency_key => 'l'").await, first);
        assert_ne!(publish(&world, ", project_id => 'p1'").await, publish(&world, ", project_id => 'p1'").await);
        assert_eq!(world.number("select count(*) from events").await, 5);
        assert_eq!(first.get_version_num(), 8);
    }

    async fn a_program_publishes_as_sql_does(world: LedgerWorld) {
        let aggregate = Uuid::from_u128(7).to_string();
        let mut event = Publication::new("thing.made", "thing", &aggregate, "{\"a\": 1}");
        event.idempotency_key = Some("k");
        let first = world.store.publish(&event).await.unwrap();
        assert_eq!(publish(&world, ", idempotency_key => 'k'").await, first);
        let pending = world.pending(10).await;
        assert_eq!((pending.len(), pending[0].id, pending[0].payload.as_deref()), (1, first, Some("{\"a\": 1}")));
        let broken = Publication::new("thing.made", "thing", "no id", "{}");
        assert!(matches!(world.store.publish(&broken).await, Err(StoreError::Refused { .. })));
    }

    async fn a_key_whose_event_has_other_content_is_an_error_that_names_the_key(world: LedgerWorld) {
        let keyed = |payload: &str| format!("select switchyard.publish('thing.made', 'thing', null, '{payload}', idempotency_key => 'k')");
        world.run_sql(&keyed(r#"{"n": 1}"#)).await;
        world.run_sql("begin; select set_config('switchyard.correlation_id', gen_random_uuid()::text, true)").await;
        world.run_sql(&keyed(r#"{"n": 1}"#)).await;
        world.run_sql("commit").await;
        for forged in [r#"{"payload": {"secret": 1}}"#, r#"{"metadata": "7"}"#] {
            world.run_sql(&format!("update events set payload = coalesce('{forged}'::jsonb -> 'payload', payload),
                metadata = coalesce(('{forged}'::jsonb ->> 'metadata')::jsonb, metadata)")).await;
            let error = world.store.query(&keyed(r#"{"n": 1}"#), &[]).await.unwrap_err();
            assert!(error.is_forged(), "{error:?}");
            let text = format!("{error:?}");
            assert!(text.contains("\\\"k\\\"") && !text.contains("secret"), "{text}");
        }
        assert_eq!(world.number("select count(*) from events").await, 1);
    }

    async fn two_publishers_of_one_key_at_once_append_one_event(world: LedgerWorld) {
        let (a, b) = tokio::join!(publish(&world, ", idempotency_key => 'k'"), publish(&world, ", idempotency_key => 'k'"));
        assert_eq!(a, b);
        assert_eq!(world.number("select count(*) from events").await, 1);
    }

    async fn within_its_window_a_key_is_one_event_and_after_it_the_next(world: LedgerWorld) {
        let daily = ", project_id => 'p1', idempotency_key => 'digest', idempotency_window => '1 day'";
        let first = publish(&world, daily).await;
        assert_eq!(publish(&world, daily).await, first);
        assert_ne!(publish(&world, &daily.replace("'p1'", "'p2'")).await, first, "within a project");
        world.run_sql("update switchyard.publish_key set until = now()").await;
        let second = publish(&world, daily).await;
        assert_ne!(second, first);
        assert_eq!(publish(&world, daily).await, second, "for as long again");
        assert_eq!(world.number("select count(*) from events").await, 3);
        assert_eq!(world.number("select count(*) from events where metadata ->> 'idempotency_key' = 'digest'").await, 3);
    }

    async fn a_key_without_a_window_is_for_ever_and_knows_nothing_of_one_with(world: LedgerWorld) {
        let forever = publish(&world, ", idempotency_key => 'k'").await;
        let window = publish(&world, ", idempotency_key => 'k', idempotency_window => '1 h'").await;
        assert_ne!(forever, window);
        world.run_sql("update switchyard.publish_key set until = now() - interval '1 year'").await;
        assert_eq!(publish(&world, ", idempotency_key => 'k'").await, forever);
    }

    async fn many_publishers_of_one_key_and_window_at_once_append_one_event(world: LedgerWorld) {
        let aggregate = Uuid::from_u128(7).to_string();
        let mut event = Publication::new("thing.made", "thing", &aggregate, "{}");
        event.idempotency_key = Some("k");
        event.idempotency_window = Some(std::time::Duration::from_secs(3_600));
        for round in 1..=3 {
            let (store, event) = (&world.store, &event);
            let [a, b, c, d, e, f] = std::array::from_fn(|_| async move { store.publish(event).await.unwrap() });
            let (a, b, c, d, e, f) = tokio::join!(a, b, c, d, e, f);
            assert!([b, c, d, e, f].iter().all(|id| *id == a));
            assert_eq!(world.number("select count(*) from events").await, round);
            world.run_sql("update switchyard.publish_key set until = now()").await;
        }
    }

    async fn a_publisher_that_rolls_back_has_not_used_the_key(world: LedgerWorld) {
        let sql = "select switchyard.publish('thing.made', 'thing', null, '{}', idempotency_key => 'k', idempotency_window => '1 h')";
        let mut tx = world.store.begin().await.unwrap();
        let lost: Uuid = tx.query(sql, &[]).await.unwrap()[0].get(0);
        let waiting = world.store.query(sql, &[]);
        let (kept, ()) = tokio::join!(waiting, async {
            world.lock_is_awaited().await;
            tx.rollback().await.unwrap();
        });
        let kept: Uuid = kept.unwrap()[0].get(0);
        assert_ne!(kept, lost);
        assert_eq!(world.pending(10).await.iter().map(|event| event.id).collect::<Vec<_>>(), [kept]);
    }

    async fn keys_are_forgotten_when_their_window_is_over(world: LedgerWorld) {
        publish(&world, ", idempotency_key => 'short', idempotency_window => '1 h'").await;
        world.run_sql("update switchyard.publish_key set until = now()").await;
        publish(&world, ", idempotency_key => 'long', idempotency_window => '1 h'").await;
        world.store.prune().await.unwrap();
        assert_eq!(world.number("select count(*) from switchyard.publish_key").await, 1);
    }

    async fn a_window_of_nothing_or_without_a_key_is_refused(world: LedgerWorld) {
        for wrong in [", idempotency_window => '1 h'", ", idempotency_key => 'k', idempotency_window => '0'", ", idempotency_key => 'k', idempotency_window => '-1 h'"] {
            let sql = format!("select switchyard.publish('thing.made', 'thing', null, '{{}}'{wrong})");
            assert!(matches!(world.store.query(&sql, &[]).await, Err(StoreError::Refused { .. })), "{wrong}");
        }
        let mut event = Publication::new("thing.made", "thing", "00000000-0000-0000-0000-000000000007", "{}");
        event.idempotency_window = Some(std::time::Duration::from_secs(1));
        assert!(matches!(world.store.publish(&event).await, Err(StoreError::Refused { .. })));
    }

    async fn publishing_takes_the_chain_from_the_transaction(world: LedgerWorld) {
        let [correlation, causation] = [Uuid::new_v4(), Uuid::new_v4()];
        let mut tx = world.store.begin().await.unwrap();
        tx.query("select set_config('switchyard.correlation_id', $1, true), set_config('switchyard.causation_id', $2, true)",
            &[(&correlation.to_string(), Type::TEXT), (&causation.to_string(), Type::TEXT)]).await.unwrap();
        tx.query("select switchyard.publish('thing.made', 'thing', null, '{}')", &[]).await.unwrap();
        tx.commit().await.unwrap();
        let metadata = world.pending(1).await.remove(0).metadata.unwrap();
        assert!(metadata.contains(&format!("\"correlation_id\": \"{correlation}\"")) && metadata.contains(&format!("\"causation_id\": \"{causation}\"")));
        let mut tx = world.store.begin().await.unwrap();
        tx.query("select set_config('switchyard.correlation_id', 'no id', true)", &[]).await.unwrap();
        tx.query("select switchyard.publish('thing.made', 'thing', null, '{}')", &[]).await.unwrap();
        tx.commit().await.unwrap();
        assert!(!world.pending(2).await.remove(1).metadata.unwrap().contains("correlation_id"));
    }

    async fn publishing_without_a_type_is_refused(world: LedgerWorld) {
        assert!(world.store.query("select switchyard.publish('', 'thing', null, '{}')", &[]).await.is_err());
    }

    async fn what_a_lost_transport_carried_is_pending_again_and_what_is_settled_is_not(world: LedgerWorld) {
        world.register(&["a"], Mode::Full).await;
        let [done, failing, unasked, parked] =
            [world.event("a").await, world.event("a").await, world.event("a").await, world.event("a").await];
        let nobodys = world.event("b").await;
        world.publish_all().await;
        assert_eq!(world.claim(done).await, Verdict::Take);
        world.fail(failing).await;
        world.park(parked).await;

        assert_eq!(world.store.publish_again().await.unwrap(), 2);

        let pending: Vec<Uuid> = world.pending(10).await.iter().map(|row| row.id).collect();
        assert_eq!(pending, [failing, unasked]);
        assert!(!pending.contains(&nobodys));
        assert_eq!(world.store.publish_again().await.unwrap(), 0, "they are pending already");
    }
}
