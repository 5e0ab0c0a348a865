//! Events that wait for their time: seen, and cancelled while they wait.

use switchyard_store::{Ask, Cancellation, Delays, Mode, Overdue, Since, StoreError, Verdict};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::{AGENT, Deadline, LedgerWorld, spec};

const TOMORROW: &str = "now() + interval '1 day'";

impl LedgerWorld {
    /// An event that waits until then.
    async fn waiting(&self, event_type: &str, until: &str) -> Uuid {
        let at: String = self.one(&format!("select switchyard.rfc3339({until})"), &[]).await.get(0);
        self.event_with(event_type, Uuid::new_v4(), &format!(r#"{{"deliver_at": "{at}", "project_id": "p1"}}"#)).await
    }

    async fn cancel(&self, event: Uuid) -> Cancellation {
        let answers = self.store.cancel_delayed(&[event], "ada", "sent by mistake").await.unwrap();
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].0, event);
        answers[0].1
    }

    async fn delayed(&self, which: &Delays) -> Vec<Uuid> {
        self.store.delayed(100, which).await.unwrap().iter().map(|event| event.event_id).collect()
    }

    /// As if its time had come.
    async fn its_time_comes(&self, event: Uuid) {
        self.run_sql(&format!(
            "update switchyard.event_log set due_at = now() - interval '1 s' where event_id = '{event}';
             update switchyard.outbox o set due_at = l.due_at from switchyard.event_log l where l.seq = o.seq and l.event_id = '{event}'"
        ))
        .await;
    }
}

directly_and_pooled! {
    async fn deferred_events_are_listed_by_due_time(world: LedgerWorld) {
        let later = world.waiting("thing.made", "now() + interval '2 days'").await;
        let next = world.waiting("thing.changed", TOMORROW).await;
        let [_, past] = [world.event("thing.made").await, world.waiting("thing.made", "now() - interval '1 h'").await];
        assert_eq!(world.delayed(&Delays::default()).await, [next, later]);
        assert_eq!(world.store.delayed_count().await.unwrap(), 2);
        assert_eq!(world.store.delayed(1, &Delays::default()).await.unwrap().len(), 1);
        let of = |types: &[&str]| Delays { types: types.iter().map(ToString::to_string).collect(), ..Delays::default() };
        assert_eq!(world.delayed(&of(&["thing.made"])).await, [later]);
        assert_eq!(world.delayed(&Delays { projects: vec!["p2".into()], ..Delays::default() }).await, [] as [Uuid; 0]);
        let told = world.store.delayed(1, &of(&["thing.made"])).await.unwrap().remove(0);
        assert_eq!((told.event_type.as_str(), told.project_id.as_deref()), ("thing.made", Some("p1")));
        assert!(told.due_at.ends_with('Z') && told.due_at > told.logged_at);
        let aggregates = vec![told.aggregate_id];
        assert_eq!(world.delayed(&Delays { aggregates, ..Delays::default() }).await, [later]);
        assert_eq!(world.pending(10).await.iter().filter(|event| event.id == past).count(), 1, "its time has come");
    }

    async fn a_cancelled_event_stays_in_its_table_and_no_agent_receives_it_and_the_ledger_balances(world: LedgerWorld) {
        let [cancelled, other] = [world.waiting("thing.made", TOMORROW).await, world.waiting("thing.made", TOMORROW).await];
        assert_eq!(world.cancel(cancelled).await, Cancellation::Cancelled);
        assert_eq!(world.cancel(cancelled).await, Cancellation::AlreadyCancelled);
        assert_eq!(world.delayed(&Delays::default()).await, [other]);
        assert_eq!(world.number("select count(*) from events").await, 2);
        assert!(world.row(cancelled).await.is("n", "e"));
        let reason = "select reason from switchyard.delivery where state = 'e'";
        assert_eq!(world.one(reason, &[]).await.get::<_, &str>(0), "cancelled");

        // Not by the shim, not by the steward, not after a loss, and not by a copy that was read in that moment.
        world.its_time_comes(cancelled).await;
        assert!(world.pending(10).await.is_empty());
        world.sweep().await;
        world.let_time_pass().await;
        world.store.publish_again().await.unwrap();
        let carried: Vec<Uuid> = world.pending(10).await.iter().map(|event| event.id).collect();
        assert!(!carried.contains(&cancelled));
        assert!(!world.due().await.iter().any(|(event, ..)| *event == cancelled));
        assert_eq!(world.claim(cancelled).await, Verdict::AlreadyDone);
        world.sweep_past_everything().await;
        let ledger = world.store.ledger(AGENT).await.unwrap();
        assert_eq!((ledger.subscribed, ledger.expired, ledger.assigned, ledger.done), (2, 1, 1, 0));

        let audit = world.one("select by, detail ->> 'reason', detail -> 'event_ids' ->> 0 from switchyard.audit where action = 'cancel_delayed'", &[]).await;
        assert_eq!((audit.get::<_, &str>(0), audit.get::<_, &str>(1)), ("ada", "sent by mistake"));
        assert_eq!(audit.get::<_, &str>(2), cancelled.to_string());
        assert_eq!(world.number("select count(*) from switchyard.audit where action = 'cancel_delayed'").await, 1);
    }

    async fn what_is_on_its_way_cannot_be_cancelled(world: LedgerWorld) {
        let published = world.waiting("thing.made", TOMORROW).await;
        world.its_time_comes(published).await;
        let seq = world.seq(published).await;
        world.store.published(&[seq]).await.unwrap();
        let [never, unknown] = [world.event("thing.made").await, Uuid::new_v4()];
        let carried_early = world.waiting("thing.made", TOMORROW).await;
        world.publish_all().await;
        // The shim may have read it just now.
        let due = world.waiting("thing.made", "now() - interval '1 s'").await;
        for (event, answer) in [
            (published, Cancellation::Due), (due, Cancellation::Due), (carried_early, Cancellation::Due), (never, Cancellation::NotDelayed), (unknown, Cancellation::Unknown),
        ] {
            assert_eq!(world.cancel(event).await, answer);
        }
        assert_eq!(world.number("select count(*) from switchyard.delivery where state = 'e'").await, 0);
        assert_eq!(world.number("select count(*) from switchyard.audit where action = 'cancel_delayed'").await, 0, "nothing was done");
        assert_eq!(world.claim(published).await, Verdict::Take);
    }

    async fn what_the_old_system_has_done_before_its_time_is_done(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let event = world.waiting("thing.made", TOMORROW).await;
        assert_eq!(world.old_claim(event).await, "take");
        assert_eq!(world.cancel(event).await, Cancellation::Taken);
        let waits = world.waiting("thing.made", TOMORROW).await;
        assert_eq!(world.cancel(waits).await, Cancellation::Cancelled);
        assert_eq!(world.old_claim(waits).await, "already_done");
    }

    async fn what_was_cancelled_is_not_the_old_system_s_of_who_listens_to_it_only_later(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let [asked, swept, resent] =
            [world.waiting("thing.sold", TOMORROW).await, world.waiting("thing.sold", TOMORROW).await, world.waiting("thing.sold", TOMORROW).await];
        for event in [asked, swept, resent] {
            assert_eq!(world.cancel(event).await, Cancellation::Cancelled);
            world.its_time_comes(event).await;
        }
        world.store.register(&spec(&["thing.made", "thing.changed", "thing.sold"]), Mode::Full, Since::Beginning).await.unwrap();
        assert_eq!(world.old_claim(asked).await, "already_done");
        world.resend(resent, 0).await;
        world.sweep().await;
        world.let_time_pass().await;
        assert_eq!(world.number(&format!("select count(*) from switchyard.todo_old('{AGENT}')")).await, 0);
        for event in [asked, swept, resent] {
            assert!(world.row(event).await.is("o", "e"));
            assert_eq!(world.old_claim(event).await, "already_done");
        }
    }

    async fn each_cancellation_has_its_own_result(world: LedgerWorld) {
        let [first, second] = [world.waiting("thing.made", TOMORROW).await, world.waiting("thing.made", TOMORROW).await];
        let never = world.event("thing.made").await;
        let answers = world.store.cancel_delayed(&[second, never, first, second], "ada", "x").await.unwrap();
        assert_eq!(answers, [(first, Cancellation::Cancelled), (second, Cancellation::Cancelled), (never, Cancellation::NotDelayed)]);
    }

    async fn an_agent_that_comes_later_does_not_get_it_either(world: LedgerWorld) {
        let event = world.waiting("thing.made", TOMORROW).await;
        world.cancel(event).await;
        world.its_time_comes(event).await;
        let late = switchyard_store::AgentSpec { name: "latecomer".into(), ..spec(&["thing.made"]) };
        world.store.register(&late, Mode::Full, Since::Beginning).await.unwrap();
        world.store.set_grace("latecomer", 0).await.unwrap();
        let deadline = Deadline::new("the sweep of the latecomer");
        while world.number("select count(*) from switchyard.delivery d join switchyard.agent a on a.id = d.agent where a.name = 'latecomer'").await == 0 {
            deadline.check();
            world.store.tick().await.unwrap();
            world.store.sweep("latecomer").await.unwrap();
        }
        world.let_time_pass().await;
        assert!(world.store.due("latecomer", 10, Overdue::Now).await.unwrap().is_empty());
        let row = "select d.state::text || d.reason from switchyard.delivery d join switchyard.agent a on a.id = d.agent where a.name = 'latecomer'";
        assert_eq!(world.one(row, &[]).await.get::<_, &str>(0), "ecancelled");
    }

    async fn a_claim_and_a_cancellation_exclude_each_other(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let event = world.waiting("thing.made", TOMORROW).await;
        let mut tx = world.store.begin().await.unwrap();
        assert_eq!(super::world::old_claim_in(&mut tx, event).await.unwrap(), "take");
        let (answer, ()) = tokio::join!(world.cancel(event), async {
            world.lock_is_awaited().await;
            tx.commit().await.unwrap();
        });
        assert_eq!(answer, Cancellation::Taken);
    }

    async fn a_cancellation_does_not_wait_for_a_long_lock(world: LedgerWorld) {
        let [free, held] = [world.waiting("thing.made", TOMORROW).await, world.waiting("thing.made", TOMORROW).await];
        let mut tx = world.store.begin().await.unwrap();
        assert_eq!(tx.claim(AGENT, &[Ask::live(held)]).await.unwrap()[0].verdict, Verdict::Take);
        let store = world.store.within(std::time::Duration::from_secs(60));
        let refused = store.cancel_delayed(&[free, held], "ada", "x").await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
        tx.rollback().await.unwrap();
        assert_eq!(world.delayed(&Delays::default()).await.len(), 2, "all of them or none");
    }
}
