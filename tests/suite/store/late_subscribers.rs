//! An agent that is registered late: from now on, or from the beginning.

use switchyard_store::{Ask, Mode, Registered, Since, Verdict};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::{AGENT, Deadline, LedgerWorld, spec};

impl LedgerWorld {
    async fn register_from_beginning(&self, subscribes: &[&str]) -> Registered {
        self.store.register(&spec(subscribes), Mode::Full, Since::Beginning).await.unwrap()
    }

    async fn verdicts(&self, events: &[Uuid]) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for event in events {
            verdicts.push(self.preview(*event).await.verdict);
        }
        verdicts
    }
}

directly_and_pooled! {
    async fn from_now_on_a_late_subscriber_has_nothing_of_what_was(world: LedgerWorld) {
        let before = world.event("thing.sold").await;
        let registered = world.register(&["thing.made", "thing.changed", "thing.sold"], Mode::Full).await;
        assert_eq!((registered.added.as_slice(), registered.extended.len()), (["thing.sold".to_owned()].as_slice(), 0));
        let after = world.event("thing.sold").await;
        assert_eq!(world.verdicts(&[before, after]).await, [Verdict::NotSubscribed, Verdict::Take]);
        world.sweep_past_everything().await;
        assert_eq!(world.store.ledger(AGENT).await.unwrap().subscribed, 1);
    }

    async fn from_the_beginning_it_gets_all_that_was(world: LedgerWorld) {
        let before = [world.event("thing.sold").await, world.event("thing.sold").await];
        world.event("thing.lost").await;
        let registered = world.register_from_beginning(&["thing.made", "thing.changed", "thing.sold"]).await;
        assert_eq!(registered.extended, ["thing.sold"], "the others were listened to from the first sequence on");
        let after = world.event("thing.sold").await;
        world.publish_all().await;
        world.sweep_past_everything().await;
        let sent: Vec<_> = world.due().await.into_iter().map(|d| d.0).collect();
        assert_eq!(sent, [before[0], before[1], after]);
        for event in sent {
            assert_eq!(world.claim(event).await, Verdict::Take);
        }
        let ledger = world.store.ledger(AGENT).await.unwrap();
        assert_eq!((ledger.subscribed, ledger.done, ledger.pending), (3, 3, 0));
    }

    async fn an_agent_that_has_worked_for_a_while_is_given_the_rest_and_keeps_what_it_did(world: LedgerWorld) {
        let before = world.event("thing.sold").await;
        world.register(&["thing.sold"], Mode::Full).await;
        let done = world.event("thing.sold").await;
        world.claim(done).await;
        world.sweep_past_everything().await;
        assert_eq!(world.register_from_beginning(&["thing.sold"]).await.extended, ["thing.sold"]);
        assert_eq!(world.store.audit(1).await.unwrap()[0].detail["extended"], serde_json::json!(["thing.sold"]));
        assert_eq!(world.verdicts(&[before, done]).await, [Verdict::Take, Verdict::AlreadyDone]);
        world.sweep_past_everything().await;
        let ledger = world.store.ledger(AGENT).await.unwrap();
        assert_eq!((ledger.subscribed, ledger.done, ledger.assigned, ledger.pending), (2, 1, 1, 0));
    }

    async fn asking_for_the_beginning_again_changes_nothing(world: LedgerWorld) {
        world.event("thing.sold").await;
        world.register_from_beginning(&["thing.sold"]).await;
        let again = world.register_from_beginning(&["thing.sold"]).await;
        assert_eq!((again.added.len(), again.removed.len(), again.extended.len()), (0, 0, 0));
        let rows = world.store.audit(100).await.unwrap();
        assert_eq!(rows.iter().filter(|r| r.action == "register").count(), 2, "the world's own, and the first of these");
        assert_eq!(rows[0].detail["extended"], serde_json::json!(["thing.sold"]));
    }

    async fn what_several_periods_have_left_out_is_filled_between_them(world: LedgerWorld) {
        let mut events = Vec::new();
        for listens in [false, true, false, true, false] {
            world.register(if listens { &["thing.sold"] } else { &[] }, Mode::Full).await;
            events.push(world.event("thing.sold").await);
        }
        let expected = [Verdict::NotSubscribed, Verdict::Take, Verdict::NotSubscribed, Verdict::Take, Verdict::NotSubscribed];
        assert_eq!(world.verdicts(&events).await, expected);
        // A period, and at once an empty one, too: it was ended before any event came.
        world.register(&["thing.sold"], Mode::Full).await;
        events.push(world.event("thing.sold").await);
        world.register(&[], Mode::Full).await;
        world.register(&["thing.sold"], Mode::Full).await;
        world.register(&[], Mode::Full).await;
        events.push(world.event("thing.sold").await);
        world.register_from_beginning(&["thing.sold"]).await;
        events.push(world.event("thing.sold").await);
        assert_eq!(world.verdicts(&events).await, [Verdict::Take; 8]);
        world.sweep_past_everything().await;
        let ledger = world.store.ledger(AGENT).await.unwrap();
        assert_eq!((ledger.subscribed, ledger.assigned, ledger.pending), (8, 8, 0), "each counted once");
        let overlapping = "select count(*) from switchyard.subscription a join switchyard.subscription b on a.agent = b.agent and a.type = b.type
            and a.from_seq < b.from_seq and coalesce(a.until_seq, 9e18) >= b.from_seq";
        assert_eq!(world.number(overlapping).await, 0);
    }

    async fn never_below_the_floor(world: LedgerWorld) {
        let [forgotten, kept] = [world.event("thing.sold").await, world.event("thing.sold").await];
        world.run_sql(&format!("update switchyard.floor set seq = {}", world.seq(kept).await)).await;
        world.register_from_beginning(&["thing.sold"]).await;
        assert_eq!(world.verdicts(&[forgotten, kept]).await, [Verdict::TooOld, Verdict::Take]);
        world.sweep_past_everything().await;
        assert!(world.delivery(forgotten, 0).await.is_none());
        assert_eq!(world.store.ledger(AGENT).await.unwrap().subscribed, 1);
        assert_eq!(world.register_from_beginning(&["thing.sold"]).await.extended.len(), 0);
    }

    async fn an_event_that_was_being_written_meanwhile_is_not_lost(world: LedgerWorld) {
        let early = Uuid::new_v4();
        let mut writer = world.store.begin().await.unwrap();
        writer.execute(&format!("insert into events (id, type) values ('{early}', 'thing.sold')"), &[]).await.unwrap();
        world.event("thing.sold").await;
        world.register_from_beginning(&["thing.sold"]).await;
        world.sweep().await;
        writer.commit().await.unwrap();
        world.sweep_past_everything().await;
        assert!(world.row(early).await.is("n", "a"));
        assert_eq!(world.store.ledger(AGENT).await.unwrap().subscribed, 2);
    }

    async fn a_sweep_that_is_under_way_does_not_pass_over_what_is_added_meanwhile(world: LedgerWorld) {
        let before = world.event("thing.sold").await;
        let claimed = world.event("thing.made").await;
        world.store.set_grace(AGENT, 0).await.unwrap();
        let deadline = Deadline::new("the stable point");
        while world.store.tick().await.unwrap().stable_seq < 2 {
            deadline.check();
        }
        // The sweep would write this one's row, and waits to hear what becomes of it.
        let mut claim = world.store.begin().await.unwrap();
        claim.claim(AGENT, &[Ask::live(claimed)]).await.unwrap();
        let store = world.store.clone();
        let sweep = tokio::spawn(async move { store.sweep(AGENT).await.unwrap() });
        world.lock_is_awaited().await;
        world.register_from_beginning(&["thing.made", "thing.changed", "thing.sold"]).await;
        claim.commit().await.unwrap();
        assert_eq!(sweep.await.unwrap().written, 0);
        world.sweep_past_everything().await;
        assert!(world.row(before).await.is("n", "a"));
        let ledger = world.store.ledger(AGENT).await.unwrap();
        assert_eq!((ledger.subscribed, ledger.done, ledger.assigned), (2, 1, 1));
    }

    async fn a_new_agent_of_two_types_gets_both_from_the_beginning(world: LedgerWorld) {
        let events = [world.event("thing.made").await, world.event("thing.sold").await];
        let fresh = switchyard_store::AgentSpec { name: "carver".into(), ..spec(&["thing.made", "thing.sold"]) };
        let registered = world.store.register(&fresh, Mode::Full, Since::Beginning).await.unwrap();
        assert!(registered.created);
        assert_eq!((registered.added, registered.extended), (vec!["thing.made".to_owned(), "thing.sold".into()], vec!["thing.made".to_owned(), "thing.sold".into()]));
        let asks = events.map(Ask::live);
        let inspected = world.store.preview("carver", &asks).await.unwrap();
        assert!(inspected.answers.iter().all(|s| s.verdict == Verdict::Take));
    }
}
