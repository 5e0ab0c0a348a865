//! What people order: start, pause, let go on, cancel; and what is refused, in words.

use super::scene::{all, minute, since};
use crate::store::{
    directly_and_pooled,
    scene::{AGENT, Scene, spec},
};
use switchyard_store::{BackfillSelection, BackfillState, Mode, Since, StoreError};

async fn refused(scene: &Scene, selection: &BackfillSelection) -> String {
    match scene.store.start_backfill(AGENT, selection, 50, "ada").await {
        Err(StoreError::Config { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

directly_and_pooled! {
    async fn what_an_agent_does_not_listen_to_is_refused_with_what_it_listens_to(scene: Scene) {
        let selection = BackfillSelection { types: vec!["thing.made".into(), "thing.sold".into()], ..all() };
        let problem = refused(&scene, &selection).await;
        assert!(problem.contains("does not subscribe to thing.sold: it subscribes to thing.changed, thing.made"), "{problem}");
        scene.register(&["thing.made"], Mode::Full).await;
        let gone = BackfillSelection { types: vec!["thing.changed".into()], ..all() };
        assert!(refused(&scene, &gone).await.contains("thing.changed"));
        assert!(matches!(scene.store.preview_backfill(AGENT, &gone).await, Err(StoreError::Config { .. })));
    }

    async fn an_agent_that_owns_nothing_is_refused(scene: Scene) {
        for (mode, word) in [(Mode::Off, "off"), (Mode::Shadow, "shadow"), (Mode::Percent(0), "0 percent")] {
            scene.routing(mode).await;
            assert!(refused(&scene, &all()).await.contains(word));
        }
        assert_eq!(scene.number("select count(*) from switchyard.run").await, 0);
    }

    async fn invalid_or_empty_time_ranges_are_refused(scene: Scene) {
        assert!(refused(&scene, &since("yesterday")).await.contains("since is not a time"));
        let backwards = BackfillSelection { until: Some(minute(1)), ..since(&minute(2)) };
        assert!(refused(&scene, &backwards).await.contains("--since must be before --until"));
    }

    async fn from_the_beginning_is_refused_where_a_backfill_has_taken_some_of_it(scene: Scene) {
        let subscribes = ["thing.made", "thing.changed", "thing.sold"];
        let sold = scene.event("thing.sold").await;
        scene.register(&subscribes, Mode::Full).await;
        let from_beginning = async || match scene.store.register(&spec(&subscribes), Mode::Full, Since::Beginning).await {
            Err(StoreError::Config { problem, .. }) => problem,
            other => format!("{other:?}"),
        };
        scene.backfill(&all()).await;
        assert!(from_beginning().await.contains("painter has a backfill of thing.sold"), "it is about to take it");
        scene.store.cancel_backfill(AGENT, "ada").await.unwrap();
        assert_eq!(scene.backfill_done(&all()).await, [sold]);
        let problem = from_beginning().await;
        assert!(problem.contains("switchyard backfill painter --since TIME"), "{problem}");
        scene.sweep_past_everything().await;
        assert_eq!(scene.number("select count(*) from switchyard.delivery").await, 1, "it was done once");
        scene.register(&subscribes, Mode::Full).await;
    }

    async fn an_agent_has_one_backfill_at_a_time(scene: Scene) {
        scene.backfill(&all()).await;
        assert!(refused(&scene, &all()).await.contains("--progress"));
        scene.store.pause_backfill(AGENT, "ada").await.unwrap();
        assert!(refused(&scene, &all()).await.contains("--progress"), "a paused one, too");
    }

    async fn of_two_concurrent_starts_one_is_refused(scene: Scene) {
        let starting = [0, 1].map(|_| {
            let store = scene.store.clone();
            tokio::spawn(async move { store.start_backfill(AGENT, &all(), 50, "ada").await })
        });
        let mut started = 0;
        for one in starting {
            match one.await.unwrap() {
                Ok(_) => started += 1,
                Err(error) => assert!(error.to_string().contains("running backfill"), "{error}"),
            }
        }
        assert_eq!(started, 1);
    }

    async fn a_backfill_that_is_not_running_cannot_be_paused_or_cancelled(scene: Scene) {
        let words = |error: StoreError| error.to_string();
        let answers = [
            scene.store.pause_backfill(AGENT, "ada").await.map_err(words),
            scene.store.resume_backfill(AGENT, None, "ada").await.map_err(words),
            scene.store.cancel_backfill(AGENT, "ada").await.map(|_| ()).map_err(words),
        ];
        for answer in answers {
            assert!(answer.unwrap_err().contains("painter has no running backfill"));
        }
        assert_eq!(scene.store.backfill_progress(AGENT).await.unwrap(), None);
    }

    async fn a_paused_one_takes_nothing_and_goes_on_where_it_was(scene: Scene) {
        let events = scene.histories(6).await;
        scene.backfill(&all()).await;
        scene.prepare().await;
        assert_eq!(scene.take(2).await, events[..2]);
        scene.store.pause_backfill(AGENT, "ada").await.unwrap();
        assert!(scene.take(2).await.is_empty());
        assert_eq!(scene.store.backfills_running().await.unwrap(), []);
        scene.store.resume_backfill(AGENT, Some(7), "ada").await.unwrap();
        assert_eq!(scene.progress().await.per_second, 7);
        assert_eq!(scene.store.backfill_now(AGENT).await.unwrap().unwrap().allowance, 0, "what it has missed is not made up for");
        assert_eq!(scene.take(2).await, events[2..4]);
    }

    async fn a_hundred_more_parked_deliveries_pause_it_and_a_resume_resets_the_count(scene: Scene) {
        let events = scene.histories(103).await;
        let run = scene.backfill(&all()).await;
        scene.prepare().await;
        scene.take(101).await;
        for event in &events[..100] {
            scene.park_as(*event, run, None).await;
        }
        assert!(scene.take(1).await.is_empty());
        let progress = scene.progress().await;
        assert_eq!(progress.state, BackfillState::Paused);
        assert!(progress.waits.unwrap().contains("switchyard dlq painter"));
        scene.store.resume_backfill(AGENT, None, "ada").await.unwrap();
        assert_eq!(scene.take(1).await, events[101..102]);
    }

    async fn the_estimate_uses_the_rate_since_the_last_resume(scene: Scene) {
        scene.histories(30).await;
        scene.backfill(&all()).await;
        scene.prepare().await;
        assert_eq!(scene.progress().await.ends_at, None, "nothing was measured yet");
        scene.take(10).await;
        scene.run_sql("update switchyard.backfill set measured_at = clock_timestamp() - interval '100 seconds'").await;
        let progress = scene.progress().await;
        let pace = progress.pace.unwrap();
        assert!((0.09..=0.1).contains(&pace), "{pace}");
        let left = "select extract(epoch from ends_at::timestamptz - clock_timestamp()) from switchyard.backfill_progress('painter')";
        let left = scene.number(left).await;
        assert!((195..=215).contains(&left), "{left} s for 20 at 0.1 a second");
    }

    async fn every_order_records_its_operator(scene: Scene) {
        scene.backfill(&all()).await;
        scene.store.pause_backfill(AGENT, "bob").await.unwrap();
        scene.store.resume_backfill(AGENT, Some(3), "eve").await.unwrap();
        scene.store.cancel_backfill(AGENT, "joe").await.unwrap();
        let said = scene.one("select string_agg(by || ' ' || action, ', ' order by id) from switchyard.audit where action like 'backfill%'", &[]).await;
        assert_eq!(said.get::<_, String>(0), "ada backfill_start, bob backfill_pause, eve backfill_resume, joe backfill_cancel");
        assert_eq!(scene.number("select count(*) from switchyard.run where kind = 'backfill' and by = 'ada' and not open").await, 1);
    }
}
