//! What is missing is found, and what is due is sent again.

use switchyard_store::{Ask, Mode, RoutingChange, Swept, Type, Verdict};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::{AGENT, Deadline};

directly_and_pooled! {
    async fn a_sweep_writes_the_rows_that_are_missing_once(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.event("thing.sold").await;
        world.store.set_grace(AGENT, 0).await.unwrap();
        assert_eq!(world.store.missing(AGENT).await.unwrap()[0].event_id, event);
        assert_eq!(world.sweep().await, 1);
        assert_eq!(world.sweep().await, 0);
        assert!(world.row(event).await.is("n", "a"));
        assert!(world.store.missing(AGENT).await.unwrap().is_empty());
    }

    async fn a_sweep_does_one_window_and_says_whether_there_is_more(world: LedgerWorld) {
        let mut events = Vec::new();
        for _ in 0..5 {
            events.push(world.event("thing.made").await);
        }
        world.store.set_grace(AGENT, 0).await.unwrap();
        // Once all five are stable, two at a time.
        let deadline = Deadline::new("the stable point");
        while world.store.tick().await.unwrap().stable_seq < 5 {
            deadline.check();
        }
        let mut windows = Vec::new();
        for _ in 0..3 {
            let row = world.one("select written, more from switchyard.sweep($1, 2)", &[(&AGENT, Type::TEXT)]).await;
            windows.push((row.get::<_, i64>(0), row.get::<_, bool>(1)));
        }
        assert_eq!(windows, [(2, true), (2, true), (1, false)]);
        assert_eq!(world.store.sweep(AGENT).await.unwrap(), Swept { written: 0, more: false });
    }

    async fn a_sweep_does_not_wait_for_a_registration(world: LedgerWorld) {
        world.event("thing.made").await;
        world.store.set_grace(AGENT, 0).await.unwrap();
        world.store.set_routing(AGENT, RoutingChange::draining(Mode::Full), "ada").await.unwrap();
        let mut registering = world.store.begin().await.unwrap();
        registering.query("select from switchyard.agent where name = $1 for update", &[(&AGENT, Type::TEXT)]).await.unwrap();
        let sweeping = world.one("select written from switchyard.sweep($1)", &[(&AGENT, Type::TEXT)]);
        let row = tokio::time::timeout(std::time::Duration::from_secs(20), sweeping).await.expect("it waits for the agent's row");
        assert_eq!(row.get::<_, i64>(0), 1);
        registering.rollback().await.unwrap();
    }

    async fn what_waits_in_the_outbox_hides_no_deleted_event(world: LedgerWorld) {
        let [waits, gone] = [world.event("thing.made").await, world.event("thing.made").await];
        world.run_sql(&format!("delete from switchyard.outbox where seq = {}", world.seq(gone).await)).await;
        world.sweep().await;
        world.run_sql(&format!("delete from events where id = '{gone}'")).await;
        world.run_sql(&format!("update switchyard.delivery set next_attempt_at = now() - interval '1 day' where seq = {}", world.seq(waits).await)).await;
        world.store.due(AGENT, 1, switchyard_store::Overdue::Now).await.unwrap();
        assert!(world.row(gone).await.is("n", "e"));
    }

    async fn a_sweep_leaves_events_within_their_grace_alone(world: LedgerWorld) {
        world.event("thing.made").await;
        world.store.tick().await.unwrap();
        assert_eq!(world.store.sweep(AGENT).await.unwrap(), Swept::default());
        assert!(world.store.missing(AGENT).await.unwrap().is_empty());
        assert_eq!(world.store.ledger(AGENT).await.unwrap().pending, 1);
    }

    async fn an_event_committed_after_a_later_one_is_not_lost(world: LedgerWorld) {
        // The early sequence commits late, behind two sweeps that have seen a later one.
        let early = Uuid::new_v4();
        let mut late_writer = world.store.begin().await.unwrap();
        late_writer.execute(&format!("insert into events (id, type) values ('{early}', 'thing.made')"), &[]).await.unwrap();
        let later = world.event("thing.made").await;
        world.sweep().await;
        world.sweep().await;
        assert!(world.row(later).await.is("n", "a"), "what is visible is written in spite of the open transaction");
        late_writer.commit().await.unwrap();
        assert!(world.seq(early).await < world.seq(later).await);
        world.sweep().await;
        assert!(world.row(early).await.is("n", "a"));
        world.sweep_past_everything().await;
        assert_eq!(world.store.ledger(AGENT).await.unwrap().subscribed, 2);
    }

    async fn the_stable_point_waits_for_writers_and_says_for_how_long(world: LedgerWorld) {
        let mut writer = world.store.begin().await.unwrap();
        writer.execute(&format!("insert into events (id, type) values ('{}', 'thing.made')", Uuid::new_v4()), &[]).await.unwrap();
        world.store.tick().await.unwrap();
        let held = world.store.tick().await.unwrap();
        assert_eq!((held.last_seq, held.stable_seq), (1, 0));
        assert!(held.held_back_secs > 0.0);
        writer.commit().await.unwrap();
        let deadline = Deadline::new("the stable point");
        while world.store.tick().await.unwrap().stable_seq < 1 {
            deadline.check();
        }
    }

    async fn fences_of_another_life_are_forgotten(world: LedgerWorld) {
        // After a dump and restore transaction ids start anew, far below those in the table.
        world.run_sql("insert into switchyard.fence (seq, xid) values (99, '999999999')").await;
        world.store.tick().await.unwrap();
        assert_eq!(world.number("select count(*) from switchyard.fence where seq = 99").await, 0);
    }

    async fn what_is_due_is_leased_so_that_a_lost_send_is_repeated(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.publish_all().await;
        world.sweep().await;
        world.store.set_grace(AGENT, 60_000).await.unwrap();
        assert_eq!(world.due().await, [(event, 0, 0)]);
        assert!(world.due().await.is_empty(), "leased");
        world.let_time_pass().await;
        assert_eq!(world.due().await, [(event, 0, 0)]);
        world.claim(event).await;
        world.let_time_pass().await;
        assert!(world.due().await.is_empty());
    }

    async fn what_the_shim_has_not_published_is_left_to_the_shim(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.sweep().await;
        assert!(world.due().await.is_empty());
        world.publish_all().await;
        assert_eq!(world.due().await, [(event, 0, 0)]);
    }

    async fn what_belongs_to_the_old_system_is_never_due(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        world.event("thing.made").await;
        world.publish_all().await;
        world.sweep().await;
        world.let_time_pass().await;
        assert!(world.due().await.is_empty());
    }

    async fn an_event_with_a_time_to_deliver_waits_for_it(world: LedgerWorld) {
        let later = world.event_with("thing.made", Uuid::new_v4(), r#"{"deliver_at": "2999-01-01T00:00:00Z"}"#).await;
        assert!(world.pending(10).await.is_empty());
        world.sweep().await;
        assert!(world.row(later).await.is("n", "a"), "visible in the ledger");
        world.publish_all().await;
        assert!(world.due().await.is_empty());
        world.let_time_pass().await;
        assert_eq!(world.due().await, [(later, 0, 0)]);
    }

    async fn a_redrive_makes_parked_and_unfinished_rows_due_and_leaves_settled_ones(world: LedgerWorld) {
        let parked = world.event("thing.made").await;
        world.park(parked).await;
        let failing = world.event("thing.made").await;
        world.fail(failing).await;
        let done = world.event("thing.made").await;
        world.claim(done).await;
        let fresh = world.event("thing.made").await;
        let foreign = world.event("thing.sold").await;
        world.publish_all().await;
        let mut seqs = Vec::new();
        for event in [parked, failing, done, fresh, foreign] {
            seqs.push(world.seq(event).await);
        }
        let resent = world.store.resend(AGENT, &seqs, 0, "try again").await.unwrap();
        assert_eq!((resent.added, resent.redriven), (1, 2));
        assert_eq!(world.due().await, [(parked, 0, 1), (failing, 0, 1), (fresh, 0, 0)]);
        assert_eq!(world.row(failing).await.attempts, 0, "a redrive starts counting anew");
        assert!(world.row(done).await.is("n", "d"));
        assert!(world.delivery(foreign, 0).await.is_none());
        assert_eq!(world.claim(parked).await, Verdict::Take);
    }

    async fn a_redrive_of_what_is_being_processed_waits_and_leaves_it_done(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.sweep().await;
        let mut tx = world.store.begin().await.unwrap();
        tx.claim(AGENT, &[Ask::live(event)]).await.unwrap();
        let commit_when_someone_waits = async {
            world.lock_is_awaited().await;
            tx.commit().await.unwrap();
        };
        let (resent, ()) = tokio::join!(world.resend(event, 0), commit_when_someone_waits);
        assert_eq!((resent.added, resent.redriven), (0, 0));
        assert!(world.row(event).await.is("n", "d"));
    }

    async fn the_ledger_adds_up(world: LedgerWorld) {
        use switchyard_store::Settlement::{Expired, Superseded};
        let mut events = Vec::new();
        for _ in 0..8 {
            events.push(world.event("thing.made").await);
        }
        world.claim(events[0]).await;
        world.settle(events[1], Superseded).await;
        world.settle(events[2], Expired).await;
        world.park(events[3]).await;
        world.fail(events[4]).await;
        for swept in [false, true] {
            if swept {
                world.sweep_past_everything().await;
                assert_eq!(world.number("select sum(n) from switchyard.subscription").await, 8, "counted up to the watermark");
            }
            let l = world.store.ledger(AGENT).await.unwrap();
            assert_eq!((l.subscribed, l.done, l.superseded, l.expired, l.parked, l.failing), (8, 1, 1, 1, 1, 1), "{l:?}");
            assert_eq!((l.pending, l.assigned), if swept { (0, 3) } else { (3, 0) });
        }
    }

    async fn room_is_made_ahead_and_only_once(world: LedgerWorld) {
        world.run_sql("select setval('switchyard.event_log_seq_seq', 3500000)").await;
        assert_eq!(world.store.tick().await.unwrap().partitions_added, 4);
        assert_eq!(world.store.tick().await.unwrap().partitions_added, 0);
        let event = world.event("thing.made").await;
        assert_eq!(world.claim(event).await, Verdict::Take);
    }

    async fn an_outbox_row_whose_event_was_deleted_goes_with_the_next_tick(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let kept = world.event("thing.made").await;
        world.run_sql(&format!("delete from events where id = '{event}'")).await;
        world.store.tick().await.unwrap();
        assert_eq!(world.number("select count(*) from switchyard.outbox").await, 1);
        assert_eq!(world.pending(10).await[0].id, kept);
    }

    async fn a_delivery_whose_event_was_deleted_expires_instead_of_being_sent_for_ever(world: LedgerWorld) {
        let [gone, kept] = [world.event("thing.made").await, world.event("thing.made").await];
        world.publish_all().await;
        world.sweep().await;
        world.run_sql(&format!("delete from events where id = '{gone}'")).await;
        assert_eq!(world.due().await.iter().map(|d| d.0).collect::<Vec<_>>(), [kept]);
        assert!(world.row(gone).await.is("n", "e"));
        assert_eq!(world.number("select count(*) from switchyard.delivery where reason = 'event_deleted'").await, 1);
    }

    async fn what_was_deleted_is_not_left_to_the_old_system_either(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let [gone, kept] = [world.event("thing.made").await, world.event("thing.made").await];
        world.sweep().await;
        world.run_sql(&format!("delete from events where id = '{gone}'")).await;
        world.store.tick().await.unwrap();
        assert!(world.row(gone).await.is("o", "e"));
        let todo = world.one(&format!("select array_agg(t) from switchyard.todo_old('{AGENT}') t"), &[]).await;
        assert_eq!(todo.get::<_, Vec<Uuid>>(0), [kept]);
    }

    async fn a_tick_reports_room_and_the_old_system_s_delay(world: LedgerWorld) {
        let before = world.store.tick().await.unwrap();
        assert!(before.room >= 5_000_000 && before.old_waits_secs == 0.0, "{before:?}");
        world.routing(Mode::Off).await;
        world.event("thing.made").await;
        world.sweep().await;
        world.run_sql("update switchyard.delivery set next_attempt_at = now() - interval '1 hour'").await;
        let after = world.store.tick().await.unwrap();
        let room = "select max(past) - 1 - switchyard.last_seq() from switchyard.delivery_partitions()";
        assert_eq!(after.room, world.number(room).await);
        world.run_sql("select setval('switchyard.event_log_seq_seq', switchyard.last_seq() + 10)").await;
        assert_eq!(world.store.tick().await.unwrap().room, after.room - 10);
        assert!((3600.0..3700.0).contains(&after.old_waits_secs), "{after:?}");
    }
}
