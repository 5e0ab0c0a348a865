//! Sending again what is not settled: with backoff, up to a limit, then parked with a reason.

use switchyard_store::{Overdue, Selection, Type};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::{AGENT, LedgerWorld};

impl LedgerWorld {
    /// Published, swept, and with a grace of a minute from now on.
    async fn lost(&self, n: usize) -> Vec<Uuid> {
        let mut events = Vec::new();
        for _ in 0..n {
            events.push(self.event("thing.made").await);
        }
        self.publish_all().await;
        self.sweep().await;
        self.store.set_grace(AGENT, 60_000).await.unwrap();
        events
    }

    /// In how many seconds the event is due.
    async fn due_in(&self, event: Uuid) -> f64 {
        let sql = "select extract(epoch from d.next_attempt_at - now())::float8 from switchyard.delivery d join switchyard.event_log l using (seq) where l.event_id = $1";
        self.one(sql, &[(&event, Type::UUID)]).await.get(0)
    }

    async fn sent(&self, event: Uuid) -> i64 {
        self.number(&format!("select d.sends from switchyard.delivery d join switchyard.event_log l using (seq) where l.event_id = '{event}'")).await
    }

    async fn resends_on_record(&self) -> Vec<serde_json::Value> {
        let rows = self.store.audit(1_000).await.unwrap();
        rows.into_iter()
            .rev()
            .filter(|r| r.action == "resent" && r.component.as_deref() == Some(AGENT))
            .map(|r| r.detail)
            .collect()
    }
}

directly_and_pooled! {
    async fn each_send_without_an_answer_waits_twice_as_long_up_to_an_hour(world: LedgerWorld) {
        let event = world.lost(1).await[0];
        for (sends, wait) in [(1, 60.0), (2, 120.0), (3, 240.0), (4, 480.0), (5, 960.0), (6, 1_920.0), (7, 3_600.0), (8, 3_600.0)] {
            let due = world.store.due(AGENT, 10, Overdue::Now).await.unwrap();
            assert_eq!(due.iter().map(|d| (d.run, d.epoch, d.sends)).collect::<Vec<_>>(), [(0, 0, sends)]);
            let next = world.due_in(event).await;
            assert!((wait - 1.0..=wait * 1.2).contains(&next), "send {sends}: {next} s, not {wait} s and up to a fifth more");
            world.let_time_pass().await;
        }
    }

    async fn what_was_lost_together_comes_apart(world: LedgerWorld) {
        let events = world.lost(50).await;
        assert_eq!(world.due().await.len(), 50);
        let mut waits = Vec::new();
        for event in events {
            waits.push(world.due_in(event).await);
        }
        let (least, most) = waits.iter().fold((f64::MAX, f64::MIN), |(a, b), w| (a.min(*w), b.max(*w)));
        assert!(most - least > 6.0 && most <= 72.0, "{least} to {most}");
    }

    async fn a_grace_over_an_hour_is_kept(world: LedgerWorld) {
        let event = world.lost(1).await[0];
        world.store.set_grace(AGENT, 7_200_000).await.unwrap();
        for _ in 0..2 {
            world.due().await;
            assert!((7_199.0..=8_640.0).contains(&world.due_in(event).await));
            world.let_time_pass().await;
        }
    }

    async fn any_answer_starts_the_count_anew(world: LedgerWorld) {
        let event = world.lost(1).await[0];
        for _ in 0..3 {
            world.due().await;
            world.let_time_pass().await;
        }
        assert_eq!(world.sent(event).await, 3);
        world.fail(event).await;
        assert_eq!(world.sent(event).await, 0);
        world.let_time_pass().await;
        world.due().await;
        world.store.suspect(AGENT, &switchyard_store::Ask::live(event)).await.unwrap();
        assert_eq!(world.sent(event).await, 0, "somebody has it in hand");
    }

    async fn after_twenty_sends_it_is_parked_in_the_open_and_a_redrive_starts_anew(world: LedgerWorld) {
        let event = world.lost(1).await[0];
        for _ in 0..20 {
            assert_eq!(world.due().await.len(), 1);
            world.let_time_pass().await;
        }
        assert!(world.due().await.is_empty());
        assert!(world.row(event).await.is("n", "p"));
        assert_eq!(world.store.ledger(AGENT).await.unwrap().parked, 1);
        let group = world.store.parked(AGENT, &Selection::default()).await.unwrap().remove(0);
        assert_eq!((group.reason.as_str(), group.count, group.examples), ("unanswered", 1, vec![event]));
        assert_eq!(group.error.as_deref(), Some("sent 20 times without an answer"));
        let failure = world.store.failures(AGENT, 10).await.unwrap().remove(0);
        assert_eq!((failure.event_id, failure.parked, failure.reason.as_str()), (Some(event), true, "unanswered"));
        assert_eq!(world.resends_on_record().await[20], serde_json::json!({"sent": 0, "again": 0, "parked": 1}));
        world.store.redrive(AGENT, &Selection::default(), 0, "alice", "the queue is there again").await.unwrap();
        assert_eq!(world.due().await, [(event, 0, 1)]);
        assert_eq!(world.sent(event).await, 1);
    }

    async fn giving_up_one_does_not_hold_up_the_others(world: LedgerWorld) {
        let events = world.lost(3).await;
        world.run_sql(&format!("update switchyard.delivery set sends = 20 where seq = {}", world.seq(events[1]).await)).await;
        assert_eq!(world.due().await, [(events[0], 0, 0), (events[2], 0, 0)]);
        assert_eq!(world.resends_on_record().await, [serde_json::json!({"sent": 2, "again": 0, "parked": 1})]);
    }

    async fn while_a_queue_still_holds_messages_only_what_is_an_hour_overdue_is_sent(world: LedgerWorld) {
        let events = world.lost(2).await;
        world.run_sql("update switchyard.delivery set next_attempt_at = now() - interval '59 minutes'").await;
        world.run_sql(&format!(
            "update switchyard.delivery set next_attempt_at = now() - interval '61 minutes' where seq = {}", world.seq(events[1]).await)).await;
        assert_eq!(world.due_when(Overdue::ByAnHour).await, [(events[1], 0, 0)]);
        assert!(world.due_when(Overdue::ByAnHour).await.is_empty());
        assert_eq!(world.due_when(Overdue::Now).await, [(events[0], 0, 0)]);
    }

    async fn what_is_sent_while_a_queue_still_holds_messages_never_gives_a_delivery_up(world: LedgerWorld) {
        let event = world.lost(1).await[0];
        for _ in 0..25 {
            world.run_sql("update switchyard.delivery set next_attempt_at = now() - interval '2 hours'").await;
            assert_eq!(world.due_when(Overdue::ByAnHour).await.len(), 1);
        }
        assert_eq!(world.sent(event).await, 0);
        world.run_sql("update switchyard.delivery set sends = 20, next_attempt_at = now() - interval '2 hours'").await;
        assert_eq!(world.due_when(Overdue::ByAnHour).await.len(), 1, "nor one that has had its twenty");
        world.let_time_pass().await;
        assert!(world.due().await.is_empty());
        assert!(world.row(event).await.is("n", "p"));
    }

    async fn the_longest_overdue_come_first_and_are_told_in_the_order_of_the_sequence(world: LedgerWorld) {
        let events = world.lost(3).await;
        world.run_sql(&format!("update switchyard.delivery set next_attempt_at = now() - interval '1 hour' where seq = {}", world.seq(events[2]).await)).await;
        world.run_sql(&format!("update switchyard.delivery set next_attempt_at = now() - interval '1 minute' where seq = {}", world.seq(events[0]).await)).await;
        let due = world.store.due(AGENT, 2, Overdue::Now).await.unwrap();
        assert_eq!(due.iter().map(|d| d.seq).collect::<Vec<_>>(), [world.seq(events[0]).await, world.seq(events[2]).await]);
    }

    async fn every_call_that_sends_is_on_record_and_one_that_does_not_is_not(world: LedgerWorld) {
        world.lost(2).await;
        world.due().await;
        world.due().await;
        world.let_time_pass().await;
        world.event("thing.made").await;
        world.publish_all().await;
        world.store.set_grace(AGENT, 0).await.unwrap();
        world.sweep().await;
        world.due().await;
        let expected = [serde_json::json!({"sent": 2, "again": 0, "parked": 0}), serde_json::json!({"sent": 3, "again": 2, "parked": 0})];
        assert_eq!(world.resends_on_record().await, expected);
    }

    async fn of_two_who_ask_at_once_the_second_is_handed_what_the_first_was_not(world: LedgerWorld) {
        let events = world.lost(3).await;
        let mut first = world.store.begin().await.unwrap();
        let rows = first.query("select seq from switchyard.due($1, 2)", &[(&AGENT, Type::TEXT)]).await.unwrap();
        assert_eq!(rows.len(), 2);
        // Neither waits for the other.
        let second = tokio::time::timeout(std::time::Duration::from_secs(20), world.due()).await.unwrap();
        assert_eq!(second, [(events[2], 0, 0)]);
        first.commit().await.unwrap();
        assert!(world.due().await.is_empty());
    }

    async fn a_new_owner_has_not_been_sent_anything_yet(world: LedgerWorld) {
        let event = world.lost(1).await[0];
        world.due().await;
        world.routing(switchyard_store::Mode::Off).await;
        world.reassign_completely().await;
        assert_eq!((world.row(event).await.owner.as_str(), world.sent(event).await), ("o", 0));
    }
}
