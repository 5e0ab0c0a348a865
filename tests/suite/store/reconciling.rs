//! What is missing is found, and what is due is sent again.

use switchyard_store::{Ask, Mode, RoutingChange, Swept, Type, Verdict};
use uuid::Uuid;

use super::directly_and_pooled;
use super::scene::{AGENT, Deadline};

directly_and_pooled! {
    async fn a_sweep_writes_the_rows_that_are_missing_once(scene: Scene) {
        let event = scene.event("thing.made").await;
        scene.event("thing.sold").await;
        scene.store.set_grace(AGENT, 0).await.unwrap();
        assert_eq!(scene.store.missing(AGENT).await.unwrap()[0].event_id, event);
        assert_eq!(scene.sweep().await, 1);
        assert_eq!(scene.sweep().await, 0);
        assert!(scene.row(event).await.is("n", "a"));
        assert!(scene.store.missing(AGENT).await.unwrap().is_empty());
    }

    async fn a_sweep_does_one_window_and_says_whether_there_is_more(scene: Scene) {
        let mut events = Vec::new();
        for _ in 0..5 {
            events.push(scene.event("thing.made").await);
        }
        scene.store.set_grace(AGENT, 0).await.unwrap();
        // Once all five are stable, two at a time.
        let deadline = Deadline::new("the stable point");
        while scene.store.tick().await.unwrap().stable_seq < 5 {
            deadline.check();
        }
        let mut windows = Vec::new();
        for _ in 0..3 {
            let row = scene.one("select written, more from switchyard.sweep($1, 2)", &[(&AGENT, Type::TEXT)]).await;
            windows.push((row.get::<_, i64>(0), row.get::<_, bool>(1)));
        }
        assert_eq!(windows, [(2, true), (2, true), (1, false)]);
        assert_eq!(scene.store.sweep(AGENT).await.unwrap(), Swept { written: 0, more: false });
    }

    async fn a_sweep_does_not_wait_for_a_registration(scene: Scene) {
        scene.event("thing.made").await;
        scene.store.set_grace(AGENT, 0).await.unwrap();
        scene.store.set_routing(AGENT, RoutingChange::draining(Mode::Full), "ada").await.unwrap();
        let mut registering = scene.store.begin().await.unwrap();
        registering.query("select from switchyard.agent where name = $1 for update", &[(&AGENT, Type::TEXT)]).await.unwrap();
        let sweeping = scene.one("select written from switchyard.sweep($1)", &[(&AGENT, Type::TEXT)]);
        let row = tokio::time::timeout(std::time::Duration::from_secs(20), sweeping).await.expect("it waits for the agent's row");
        assert_eq!(row.get::<_, i64>(0), 1);
        registering.rollback().await.unwrap();
    }

    async fn what_waits_in_the_outbox_hides_no_deleted_event(scene: Scene) {
        let [waits, gone] = [scene.event("thing.made").await, scene.event("thing.made").await];
        scene.run_sql(&format!("delete from switchyard.outbox where seq = {}", scene.seq(gone).await)).await;
        scene.sweep().await;
        scene.run_sql(&format!("delete from events where id = '{gone}'")).await;
        scene.run_sql(&format!("update switchyard.delivery set next_attempt_at = now() - interval '1 day' where seq = {}", scene.seq(waits).await)).await;
        scene.store.due(AGENT, 1, switchyard_store::Overdue::Now).await.unwrap();
        assert!(scene.row(gone).await.is("n", "e"));
    }

    async fn a_sweep_leaves_events_within_their_grace_alone(scene: Scene) {
        scene.event("thing.made").await;
        scene.store.tick().await.unwrap();
        assert_eq!(scene.store.sweep(AGENT).await.unwrap(), Swept::default());
        assert!(scene.store.missing(AGENT).await.unwrap().is_empty());
        assert_eq!(scene.store.ledger(AGENT).await.unwrap().pending, 1);
    }

    async fn an_event_committed_after_a_later_one_is_not_lost(scene: Scene) {
        // The early sequence commits late, behind two sweeps that have seen a later one.
        let early = Uuid::new_v4();
        let mut late_writer = scene.store.begin().await.unwrap();
        late_writer.execute(&format!("insert into events (id, type) values ('{early}', 'thing.made')"), &[]).await.unwrap();
        let later = scene.event("thing.made").await;
        scene.sweep().await;
        scene.sweep().await;
        assert!(scene.row(later).await.is("n", "a"), "what is visible is written in spite of the open transaction");
        late_writer.commit().await.unwrap();
        assert!(scene.seq(early).await < scene.seq(later).await);
        scene.sweep().await;
        assert!(scene.row(early).await.is("n", "a"));
        scene.sweep_past_everything().await;
        assert_eq!(scene.store.ledger(AGENT).await.unwrap().subscribed, 2);
    }

    async fn the_stable_point_waits_for_writers_and_says_for_how_long(scene: Scene) {
        let mut writer = scene.store.begin().await.unwrap();
        writer.execute(&format!("insert into events (id, type) values ('{}', 'thing.made')", Uuid::new_v4()), &[]).await.unwrap();
        scene.store.tick().await.unwrap();
        let held = scene.store.tick().await.unwrap();
        assert_eq!((held.last_seq, held.stable_seq), (1, 0));
        assert!(held.held_back_secs > 0.0);
        writer.commit().await.unwrap();
        let deadline = Deadline::new("the stable point");
        while scene.store.tick().await.unwrap().stable_seq < 1 {
            deadline.check();
        }
    }

    async fn fences_of_another_life_are_forgotten(scene: Scene) {
        // After a dump and restore transaction ids start anew, far below those in the table.
        scene.run_sql("insert into switchyard.fence (seq, xid) values (99, '999999999')").await;
        scene.store.tick().await.unwrap();
        assert_eq!(scene.number("select count(*) from switchyard.fence where seq = 99").await, 0);
    }

    async fn what_is_due_is_leased_so_that_a_lost_send_is_repeated(scene: Scene) {
        let event = scene.event("thing.made").await;
        scene.publish_all().await;
        scene.sweep().await;
        scene.store.set_grace(AGENT, 60_000).await.unwrap();
        assert_eq!(scene.due().await, [(event, 0, 0)]);
        assert!(scene.due().await.is_empty(), "leased");
        scene.let_time_pass().await;
        assert_eq!(scene.due().await, [(event, 0, 0)]);
        scene.claim(event).await;
        scene.let_time_pass().await;
        assert!(scene.due().await.is_empty());
    }

    async fn what_the_shim_has_not_published_is_left_to_the_shim(scene: Scene) {
        let event = scene.event("thing.made").await;
        scene.sweep().await;
        assert!(scene.due().await.is_empty());
        scene.publish_all().await;
        assert_eq!(scene.due().await, [(event, 0, 0)]);
    }

    async fn what_belongs_to_the_old_system_is_never_due(scene: Scene) {
        scene.routing(Mode::Off).await;
        scene.event("thing.made").await;
        scene.publish_all().await;
        scene.sweep().await;
        scene.let_time_pass().await;
        assert!(scene.due().await.is_empty());
    }

    async fn an_event_with_a_time_to_deliver_waits_for_it(scene: Scene) {
        let later = scene.event_with("thing.made", Uuid::new_v4(), r#"{"deliver_at": "2999-01-01T00:00:00Z"}"#).await;
        assert!(scene.pending(10).await.is_empty());
        scene.sweep().await;
        assert!(scene.row(later).await.is("n", "a"), "visible in the ledger");
        scene.publish_all().await;
        assert!(scene.due().await.is_empty());
        scene.let_time_pass().await;
        assert_eq!(scene.due().await, [(later, 0, 0)]);
    }

    async fn a_redrive_makes_parked_and_unfinished_rows_due_and_leaves_settled_ones(scene: Scene) {
        let parked = scene.event("thing.made").await;
        scene.park(parked).await;
        let failing = scene.event("thing.made").await;
        scene.fail(failing).await;
        let done = scene.event("thing.made").await;
        scene.claim(done).await;
        let fresh = scene.event("thing.made").await;
        let foreign = scene.event("thing.sold").await;
        scene.publish_all().await;
        let mut seqs = Vec::new();
        for event in [parked, failing, done, fresh, foreign] {
            seqs.push(scene.seq(event).await);
        }
        let resent = scene.store.resend(AGENT, &seqs, 0, "try again").await.unwrap();
        assert_eq!((resent.added, resent.redriven), (1, 2));
        assert_eq!(scene.due().await, [(parked, 0, 1), (failing, 0, 1), (fresh, 0, 0)]);
        assert_eq!(scene.row(failing).await.attempts, 0, "a redrive starts counting anew");
        assert!(scene.row(done).await.is("n", "d"));
        assert!(scene.delivery(foreign, 0).await.is_none());
        assert_eq!(scene.claim(parked).await, Verdict::Take);
    }

    async fn a_redrive_of_what_is_being_processed_waits_and_leaves_it_done(scene: Scene) {
        let event = scene.event("thing.made").await;
        scene.sweep().await;
        let mut tx = scene.store.begin().await.unwrap();
        tx.claim(AGENT, &[Ask::live(event)]).await.unwrap();
        let commit_when_someone_waits = async {
            scene.lock_is_awaited().await;
            tx.commit().await.unwrap();
        };
        let (resent, ()) = tokio::join!(scene.resend(event, 0), commit_when_someone_waits);
        assert_eq!((resent.added, resent.redriven), (0, 0));
        assert!(scene.row(event).await.is("n", "d"));
    }

    async fn the_ledger_adds_up(scene: Scene) {
        use switchyard_store::Settlement::{Expired, Superseded};
        let mut events = Vec::new();
        for _ in 0..8 {
            events.push(scene.event("thing.made").await);
        }
        scene.claim(events[0]).await;
        scene.settle(events[1], Superseded).await;
        scene.settle(events[2], Expired).await;
        scene.park(events[3]).await;
        scene.fail(events[4]).await;
        for swept in [false, true] {
            if swept {
                scene.sweep_past_everything().await;
                assert_eq!(scene.number("select sum(n) from switchyard.subscription").await, 8, "counted up to the watermark");
            }
            let l = scene.store.ledger(AGENT).await.unwrap();
            assert_eq!((l.subscribed, l.done, l.superseded, l.expired, l.parked, l.failing), (8, 1, 1, 1, 1, 1), "{l:?}");
            assert_eq!((l.pending, l.assigned), if swept { (0, 3) } else { (3, 0) });
        }
    }

    async fn room_is_made_ahead_and_only_once(scene: Scene) {
        scene.run_sql("select setval('switchyard.event_log_seq_seq', 3500000)").await;
        assert_eq!(scene.store.tick().await.unwrap().partitions_added, 4);
        assert_eq!(scene.store.tick().await.unwrap().partitions_added, 0);
        let event = scene.event("thing.made").await;
        assert_eq!(scene.claim(event).await, Verdict::Take);
    }

    async fn an_outbox_row_whose_event_was_deleted_goes_with_the_next_tick(scene: Scene) {
        let event = scene.event("thing.made").await;
        let kept = scene.event("thing.made").await;
        scene.run_sql(&format!("delete from events where id = '{event}'")).await;
        scene.store.tick().await.unwrap();
        assert_eq!(scene.number("select count(*) from switchyard.outbox").await, 1);
        assert_eq!(scene.pending(10).await[0].id, kept);
    }

    async fn a_delivery_whose_event_was_deleted_expires_instead_of_being_sent_for_ever(scene: Scene) {
        let [gone, kept] = [scene.event("thing.made").await, scene.event("thing.made").await];
        scene.publish_all().await;
        scene.sweep().await;
        scene.run_sql(&format!("delete from events where id = '{gone}'")).await;
        assert_eq!(scene.due().await.iter().map(|d| d.0).collect::<Vec<_>>(), [kept]);
        assert!(scene.row(gone).await.is("n", "e"));
        assert_eq!(scene.number("select count(*) from switchyard.delivery where reason = 'event deleted'").await, 1);
    }

    async fn what_was_deleted_is_not_left_to_the_old_system_either(scene: Scene) {
        scene.routing(Mode::Off).await;
        let [gone, kept] = [scene.event("thing.made").await, scene.event("thing.made").await];
        scene.sweep().await;
        scene.run_sql(&format!("delete from events where id = '{gone}'")).await;
        scene.store.tick().await.unwrap();
        assert!(scene.row(gone).await.is("o", "e"));
        let todo = scene.one(&format!("select array_agg(t) from switchyard.todo_old('{AGENT}') t"), &[]).await;
        assert_eq!(todo.get::<_, Vec<Uuid>>(0), [kept]);
    }

    async fn a_tick_reports_room_and_the_old_system_s_delay(scene: Scene) {
        let before = scene.store.tick().await.unwrap();
        assert!(before.room >= 5_000_000 && before.old_waits_secs == 0.0, "{before:?}");
        scene.routing(Mode::Off).await;
        scene.event("thing.made").await;
        scene.sweep().await;
        scene.run_sql("update switchyard.delivery set next_attempt_at = now() - interval '1 hour'").await;
        let after = scene.store.tick().await.unwrap();
        let room = "select max(past) - 1 - switchyard.last_seq() from switchyard.delivery_partitions()";
        assert_eq!(after.room, scene.number(room).await);
        scene.run_sql("select setval('switchyard.event_log_seq_seq', switchyard.last_seq() + 10)").await;
        assert_eq!(scene.store.tick().await.unwrap().room, after.room - 10);
        assert!((3600.0..3700.0).contains(&after.old_waits_secs), "{after:?}");
    }
}
