//! Runs above 0.

use switchyard_store::{Settlement, State, StoreError, Verdict};

use super::directly_and_pooled;
use super::world::AGENT;

directly_and_pooled! {
    async fn a_replay_adds_only_what_is_settled_live(world: LedgerWorld) {
        let done = world.event("thing.made").await;
        world.claim(done).await;
        let superseded = world.event("thing.made").await;
        world.settle(superseded, Settlement::Superseded).await;
        let open = world.event("thing.made").await;
        world.fail(open).await;
        let parked = world.event("thing.made").await;
        world.park(parked).await;
        let run = world.store.new_run(AGENT, "a better model").await.unwrap();
        let mut seqs = Vec::new();
        for event in [done, superseded, open, parked] {
            seqs.push(world.seq(event).await);
        }
        let resent = world.store.resend(AGENT, &seqs, run, "replay").await.unwrap();
        assert_eq!((resent.added, resent.redriven), (2, 0));
        assert_eq!(world.due().await, [(done, run, 0), (superseded, run, 0)], "a replay does not wait for the shim");
        assert_eq!(world.claim_run(done, run).await, Verdict::Take);
        assert_eq!(world.claim_run(done, run).await, Verdict::AlreadyDone);
        assert_eq!(world.claim_run(open, run).await, Verdict::UnknownRun);
    }

    async fn repeating_a_replay_never_redoes_what_it_has_done(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.claim(event).await;
        let run = world.store.new_run(AGENT, "again").await.unwrap();
        world.resend(event, run).await;
        world.claim_run(event, run).await;
        let again = world.resend(event, run).await;
        assert_eq!((again.added, again.redriven), (0, 0));
        assert_eq!(world.claim_run(event, run).await, Verdict::AlreadyDone);
    }

    async fn a_replay_does_not_touch_the_live_row(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.claim(event).await;
        let run = world.store.new_run(AGENT, "again").await.unwrap();
        world.resend(event, run).await;
        assert!(world.fail_as(event, run, None).await.counted);
        assert_eq!(world.park_as(event, run, None).await.state, Some(State::Parked));
        assert!(world.row(event).await.is("n", "d"));
        assert!(world.delivery(event, run).await.unwrap().is("n", "p"));
        assert_eq!(world.resend(event, run).await.redriven, 1);
    }

    async fn a_cancelled_replay_supersedes_what_is_unfinished_and_keeps_what_is_done(world: LedgerWorld) {
        let mut events = Vec::new();
        let run = world.store.new_run(AGENT, "again").await.unwrap();
        for _ in 0..3 {
            let event = world.event("thing.made").await;
            world.claim(event).await;
            world.resend(event, run).await;
            events.push(event);
        }
        world.claim_run(events[0], run).await;
        world.park_as(events[1], run, None).await;
        assert_eq!(world.store.cancel_run(run).await.unwrap(), 2);
        assert!(world.delivery(events[0], run).await.unwrap().is("n", "d"));
        for event in &events[1..] {
            assert!(world.delivery(*event, run).await.unwrap().is("n", "s"));
            assert_eq!(world.claim_run(*event, run).await, Verdict::AlreadyDone);
            assert!(!world.fail_as(*event, run, None).await.counted);
        }
        assert!(world.due().await.is_empty());
        assert_eq!(world.store.cancel_run(run).await.unwrap(), 0);
        let seq = world.seq(events[1]).await;
        let refused = world.store.resend(AGENT, &[seq], run, "more").await;
        assert!(matches!(refused, Err(StoreError::Config { .. })), "a cancelled run takes no more: {refused:?}");
    }

    async fn the_live_run_cannot_be_cancelled(world: LedgerWorld) {
        assert!(matches!(world.store.cancel_run(0).await, Err(StoreError::Config { .. })));
    }

    async fn a_run_belongs_to_its_agent(world: LedgerWorld) {
        let other = switchyard_store::AgentSpec { name: "other".into(), ..super::world::spec(&["thing.made"]) };
        world.store.register(&other, switchyard_store::Mode::Full, switchyard_store::Since::Now).await.unwrap();
        let run = world.store.new_run("other", "theirs").await.unwrap();
        let event = world.event("thing.made").await;
        world.claim(event).await;
        let seq = world.seq(event).await;
        assert!(matches!(world.store.resend(AGENT, &[seq], run, "mine").await, Err(StoreError::Config { .. })));
    }

    async fn a_resend_of_a_replay_and_its_cancellation_wait_for_each_other_and_kill_neither(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.claim(event).await;
        let run = world.store.new_run(AGENT, "again").await.unwrap();
        world.resend(event, run).await;
        // As a cancellation does: the run, and then its rows.
        let mut cancelling = world.store.begin().await.unwrap();
        cancelling.execute("update switchyard.run set open = false", &[]).await.unwrap();
        let (store, seq) = (world.store.clone(), world.seq(event).await);
        let resent = tokio::spawn(async move { store.resend(AGENT, &[seq], run, "once more").await });
        world.lock_is_awaited().await;
        cancelling.execute("update switchyard.delivery set state = 's' where run > 0", &[]).await.unwrap();
        cancelling.commit().await.unwrap();
        assert!(matches!(resent.await.unwrap(), Err(StoreError::Config { .. })));
    }
}
