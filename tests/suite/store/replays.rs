//! Runs above 0.

use switchyard_store::{Settlement, State, StoreError, Verdict};

use super::directly_and_pooled;
use super::scene::AGENT;

directly_and_pooled! {
    async fn a_replay_adds_only_what_is_settled_live(scene: Scene) {
        let done = scene.event("thing.made").await;
        scene.claim(done).await;
        let superseded = scene.event("thing.made").await;
        scene.settle(superseded, Settlement::Superseded).await;
        let open = scene.event("thing.made").await;
        scene.fail(open).await;
        let parked = scene.event("thing.made").await;
        scene.park(parked).await;
        let run = scene.store.new_run(AGENT, "a better model").await.unwrap();
        let mut seqs = Vec::new();
        for event in [done, superseded, open, parked] {
            seqs.push(scene.seq(event).await);
        }
        let resent = scene.store.resend(AGENT, &seqs, run, "replay").await.unwrap();
        assert_eq!((resent.added, resent.redriven), (2, 0));
        assert_eq!(scene.due().await, [(done, run, 0), (superseded, run, 0)], "a replay does not wait for the shim");
        assert_eq!(scene.claim_run(done, run).await, Verdict::Take);
        assert_eq!(scene.claim_run(done, run).await, Verdict::AlreadyDone);
        assert_eq!(scene.claim_run(open, run).await, Verdict::UnknownRun);
    }

    async fn repeating_a_replay_never_redoes_what_it_has_done(scene: Scene) {
        let event = scene.event("thing.made").await;
        scene.claim(event).await;
        let run = scene.store.new_run(AGENT, "again").await.unwrap();
        scene.resend(event, run).await;
        scene.claim_run(event, run).await;
        let again = scene.resend(event, run).await;
        assert_eq!((again.added, again.redriven), (0, 0));
        assert_eq!(scene.claim_run(event, run).await, Verdict::AlreadyDone);
    }

    async fn a_replay_does_not_touch_the_live_row(scene: Scene) {
        let event = scene.event("thing.made").await;
        scene.claim(event).await;
        let run = scene.store.new_run(AGENT, "again").await.unwrap();
        scene.resend(event, run).await;
        assert!(scene.fail_as(event, run, None).await.counted);
        assert_eq!(scene.park_as(event, run, None).await.state, Some(State::Parked));
        assert!(scene.row(event).await.is("n", "d"));
        assert!(scene.delivery(event, run).await.unwrap().is("n", "p"));
        assert_eq!(scene.resend(event, run).await.redriven, 1);
    }

    async fn a_cancelled_replay_supersedes_what_is_unfinished_and_keeps_what_is_done(scene: Scene) {
        let mut events = Vec::new();
        let run = scene.store.new_run(AGENT, "again").await.unwrap();
        for _ in 0..3 {
            let event = scene.event("thing.made").await;
            scene.claim(event).await;
            scene.resend(event, run).await;
            events.push(event);
        }
        scene.claim_run(events[0], run).await;
        scene.park_as(events[1], run, None).await;
        assert_eq!(scene.store.cancel_run(run).await.unwrap(), 2);
        assert!(scene.delivery(events[0], run).await.unwrap().is("n", "d"));
        for event in &events[1..] {
            assert!(scene.delivery(*event, run).await.unwrap().is("n", "s"));
            assert_eq!(scene.claim_run(*event, run).await, Verdict::AlreadyDone);
            assert!(!scene.fail_as(*event, run, None).await.counted);
        }
        assert!(scene.due().await.is_empty());
        assert_eq!(scene.store.cancel_run(run).await.unwrap(), 0);
        let seq = scene.seq(events[1]).await;
        let refused = scene.store.resend(AGENT, &[seq], run, "more").await;
        assert!(matches!(refused, Err(StoreError::Config { .. })), "a cancelled run takes no more: {refused:?}");
    }

    async fn the_live_run_cannot_be_cancelled(scene: Scene) {
        assert!(matches!(scene.store.cancel_run(0).await, Err(StoreError::Config { .. })));
    }

    async fn a_run_belongs_to_its_agent(scene: Scene) {
        let other = switchyard_store::AgentSpec { name: "other".into(), ..super::scene::spec(&["thing.made"]) };
        scene.store.register(&other, switchyard_store::Mode::Full, switchyard_store::Since::Now).await.unwrap();
        let run = scene.store.new_run("other", "theirs").await.unwrap();
        let event = scene.event("thing.made").await;
        scene.claim(event).await;
        let seq = scene.seq(event).await;
        assert!(matches!(scene.store.resend(AGENT, &[seq], run, "mine").await, Err(StoreError::Config { .. })));
    }

    async fn a_resend_of_a_replay_and_its_cancellation_wait_for_each_other_and_kill_neither(scene: Scene) {
        let event = scene.event("thing.made").await;
        scene.claim(event).await;
        let run = scene.store.new_run(AGENT, "again").await.unwrap();
        scene.resend(event, run).await;
        // As a cancellation does: the run, and then its rows.
        let mut cancelling = scene.store.begin().await.unwrap();
        cancelling.execute("update switchyard.run set open = false", &[]).await.unwrap();
        let (store, seq) = (scene.store.clone(), scene.seq(event).await);
        let resent = tokio::spawn(async move { store.resend(AGENT, &[seq], run, "once more").await });
        scene.lock_is_awaited().await;
        cancelling.execute("update switchyard.delivery set state = 's' where run > 0", &[]).await.unwrap();
        cancelling.commit().await.unwrap();
        assert!(matches!(resent.await.unwrap(), Err(StoreError::Config { .. })));
    }
}
