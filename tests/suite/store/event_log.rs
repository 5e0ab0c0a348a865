//! The trigger on the application's table, the outbox, and what the shim reads.

use switchyard_store::{Known, Page};
use uuid::Uuid;

use super::directly_and_pooled;

directly_and_pooled! {
    async fn every_insert_gets_a_sequence_and_an_outbox_row_in_order(world: LedgerWorld) {
        let mut events = Vec::new();
        for _ in 0..3 {
            events.push(world.event("nobody.listens").await);
        }
        let pending = world.pending(10).await;
        assert_eq!(pending.iter().map(|p| p.id).collect::<Vec<_>>(), events);
        assert!(pending.windows(2).all(|w| w[0].seq < w[1].seq));
        let known = Known { seqs: vec![pending[0].seq], full: Vec::new() };
        assert_eq!(world.store.pending(&known, Page::of(1)).await.unwrap()[0].id, events[1], "what is known is left out");
        let full = Known { seqs: Vec::new(), full: vec![pending[0].aggregate_id.clone(), pending[1].aggregate_id.clone()] };
        assert_eq!(world.store.pending(&full, Page::of(9)).await.unwrap()[0].id, events[2], "and so are full aggregates");
        assert_eq!(world.store.published(&[pending[0].seq, pending[2].seq, 4711]).await.unwrap(), 2);
        assert_eq!(world.pending(10).await.len(), 1);
        assert_eq!(world.number("select count(*) from switchyard.event_log").await, 3, "the log survives publication");
    }

    async fn the_strangest_row_never_fails_the_insert(world: LedgerWorld) {
        for values in [
            "null, null, null, null, null, null",
            "'', '', null, '[]', '[1, 2]', -1",
            "'x', 'y', null, '\"text\"', '\"text\"', 0",
            "'x', 'y', null, 'null', 'null', 0",
            "'x', 'y', null, '3', '{\"project_id\": {\"a\": [1]}}', 0",
            "'x', 'y', null, '{\"project_id\": \"from the payload\"}', '{\"deliver_at\": \"yesterday\"}', 0",
            "'x', 'y', null, '{}', '{\"deliver_at\": \"2024-02-30T25:61:61Z\"}', 0",
            "'x', 'y', null, '{}', '{\"deliver_at\": \"infinity\"}', 0",
            "'x', 'y', null, '{}', '{\"deliver_at\": {\"a\": 1}, \"max_attempts\": {\"a\": 1}}', 0",
            "'x', 'y', null, '{}', '{\"max_attempts\": 1e999}', 0",
            "repeat('t', 2000), 'y', null, '{}', jsonb_build_object('project_id', repeat('p', 1000000)), 0",
        ] {
            world.run_sql(&format!(
                "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version) values ('{}', {values})", Uuid::new_v4())).await;
        }
        assert_eq!(world.number("select count(*) from switchyard.event_log").await, 11);
        assert_eq!(world.number("select count(*) from switchyard.event_log where due_at is not null").await, 0);
        assert_eq!(world.pending(100).await.len(), 11);
        let empty = world.pending(1).await.remove(0);
        assert_eq!((empty.event_type.as_str(), empty.payload.as_deref(), empty.metadata, empty.version), ("", Some("null"), None, None));
        assert_eq!(world.number("select count(*) from switchyard.event_log where project_id = 'from the payload'").await, 1);
    }

    async fn an_application_without_any_right_to_our_schema_can_insert(world: LedgerWorld) {
        world.run_sql("do $$ begin create role plain_application; exception when duplicate_object or unique_violation then null; end $$").await;
        world.run_sql("grant insert on events to plain_application; create policy plain on events for insert to plain_application with check (true);
            set role plain_application").await;
        let inserted = world.side.batch_execute(&format!("insert into events (id, type) values ('{}', 'thing.made')", Uuid::new_v4())).await;
        let refused = world.side.batch_execute("select * from switchyard.event_log").await;
        world.run_sql("reset role; drop owned by plain_application").await;
        inserted.unwrap();
        assert!(refused.is_err());
        assert_eq!(world.number("select count(*) from switchyard.event_log").await, 1);
    }

    async fn rows_that_arrive_by_replication_are_logged_too(world: LedgerWorld) {
        world.run_sql(&format!(
            "set session_replication_role = replica; insert into events (id, type) values ('{}', 'thing.made'); reset session_replication_role",
            Uuid::new_v4())).await;
        assert_eq!(world.number("select count(*) from switchyard.event_log").await, 1);
    }

    async fn the_insert_waits_for_none_of_our_locks(world: LedgerWorld) {
        // Everything that the machinery locks while it works.
        world.event("thing.made").await;
        let mut busy = world.store.begin().await.unwrap();
        for sql in ["select 1 from switchyard.agent for update", "select 1 from switchyard.subscription for update",
            "select 1 from switchyard.floor for update", "select 1 from switchyard.event_log for update",
            "select 1 from switchyard.outbox for update", "lock table switchyard.delivery in access exclusive mode"] {
            busy.query(sql, &[]).await.unwrap();
        }
        world.run_sql("set lock_timeout = '100ms'").await;
        world.event("thing.made").await;
        busy.rollback().await.unwrap();
    }

    async fn an_event_deleted_and_inserted_again_is_one_event(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.run_sql(&format!("delete from events where id = '{event}'; insert into events (id, type) values ('{event}', 'thing.made')")).await;
        assert_eq!(world.number("select count(*) from switchyard.event_log").await, 1);
    }

    async fn an_event_is_published_when_its_time_has_come(world: LedgerWorld) {
        let now = world.event_with("thing.made", Uuid::new_v4(), r#"{"deliver_at": "2020-01-01T00:00:00+02:00"}"#).await;
        world.event_with("thing.made", Uuid::new_v4(), r#"{"deliver_at": "2999-01-01T00:00:00Z"}"#).await;
        let pending = world.pending(10).await;
        assert_eq!(pending.iter().map(|p| p.id).collect::<Vec<_>>(), [now]);
    }

    async fn an_event_is_found_although_it_was_committed_after_later_ones_were_published(world: LedgerWorld) {
        let mut writer = world.store.begin().await.unwrap();
        let early = Uuid::new_v4();
        writer.execute(&format!("insert into events (id, type) values ('{early}', 'thing.made')"), &[]).await.unwrap();
        let later = world.event("thing.made").await;
        let seen = world.pending(10).await;
        assert_eq!(seen.iter().map(|p| p.id).collect::<Vec<_>>(), [later]);
        world.store.published(&[seen[0].seq]).await.unwrap();
        writer.commit().await.unwrap();
        assert_eq!(world.pending(10).await[0].id, early);
    }

    async fn a_payload_larger_than_any_message_is_returned_as_its_size(world: LedgerWorld) {
        let id = Uuid::new_v4();
        world.run_sql(&format!("insert into events (id, type, payload) values ('{id}', 'x', jsonb_build_object('a', repeat('x', 1100000)))")).await;
        let pending = world.pending(10).await.remove(0);
        assert_eq!((pending.payload, pending.payload_bytes), (None, 1_100_009));
        assert_eq!(world.store.events(&[pending.seq]).await.unwrap()[0].id, id);
    }

    async fn a_row_that_the_topic_refuses_again_and_again_is_parked(world: LedgerWorld) {
        world.event("thing.made").await;
        world.event("thing.made").await;
        let seq = world.pending(10).await[0].seq;
        assert!(world.store.refused(&[(seq, "too large".into())], 2).await.unwrap().is_empty());
        assert_eq!(world.pending(10).await.len(), 2);
        assert_eq!(world.store.refused(&[(seq, "too large".into())], 2).await.unwrap(), [seq]);
        assert_eq!(world.pending(10).await.len(), 1);
        assert_eq!(world.number("select count(*) from switchyard.outbox where reason = 'too large' and parked_at is not null").await, 1);
    }

    async fn rows_without_the_sequences_value_never_fail_the_insert_and_are_logged_by_the_next_tick(world: LedgerWorld) {
        // As after a restore of data alone, or an upgrade by logical replication.
        for _ in 0..3 {
            world.event("thing.made").await;
        }
        world.run_sql("select setval('switchyard.event_log_seq_seq', 1, false)").await;
        for _ in 0..2 {
            world.event("thing.made").await;
        }
        assert_eq!(world.number("select count(*) from switchyard.event_log").await, 3, "unlogged for now, and inserted");
        let tick = world.store.tick().await.unwrap();
        assert_eq!(tick.logged_late, 2);
        assert_eq!(world.number("select count(*) from switchyard.outbox").await, 5);
        assert_eq!(world.store.tick().await.unwrap().logged_late, 0);
        world.event("thing.made").await;
        assert_eq!(world.number("select count(*) from switchyard.event_log").await, 6);
    }

    async fn what_was_inserted_past_the_trigger_is_logged_by_the_next_tick(world: LedgerWorld) {
        world.run_sql("alter table events disable trigger switchyard_log").await;
        let id = Uuid::new_v4();
        world.run_sql(&format!(
            r#"insert into events (id, type, metadata) values ('{id}', 'thing.made', '{{"project_id": "p1", "max_attempts": 7}}');
               insert into events (id, type, created_at) values (gen_random_uuid(), 'thing.made', now() - interval '1 year');
               alter table events enable always trigger switchyard_log"#)).await;
        assert_eq!(world.store.tick().await.unwrap().logged_late, 1);
        let row = world.one("select event_id, project_id, max_attempts from switchyard.event_log", &[]).await;
        assert_eq!((row.get::<_, Uuid>(0), row.get::<_, &str>(1), row.get::<_, i16>(2)), (id, "p1", 7));
        assert_eq!(world.number("select count(*) from switchyard.outbox").await, 1);
        assert_eq!(world.store.log_what_is_unlogged(24 * 1000).await.unwrap(), 0, "what is older than the log is history");
    }
}
