//! What people order: start, pause, let go on, cancel; and what is refused, in words.

use super::world::{all, minute, since};
use crate::store::{
    directly_and_pooled,
    world::{AGENT, LedgerWorld, spec},
};
use switchyard_store::{BackfillSelection, BackfillState, Mode, Since, StoreError};

async fn refused(world: &LedgerWorld, selection: &BackfillSelection) -> String {
    match world.store.start_backfill(AGENT, selection, 50, "ada").await {
        Err(StoreError::Config { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

directly_and_pooled! {
    async fn what_an_agent_does_not_listen_to_is_refused_with_what_it_listens_to(world: LedgerWorld) {
        let selection = BackfillSelection { types: vec!["thing.made".into(), "thing.sold".into()], ..all() };
        let problem = refused(&world, &selection).await;
        assert!(problem.contains("does not subscribe to thing.sold: it subscribes to thing.changed, thing.made"), "{problem}");
        world.register(&["thing.made"], Mode::Full).await;
        let gone = BackfillSelection { types: vec!["thing.changed".into()], ..all() };
        assert!(refused(&world, &gone).await.contains("thing.changed"));
        assert!(matches!(world.store.preview_backfill(AGENT, &gone).await, Err(StoreError::Config { .. })));
    }

    async fn an_agent_that_owns_nothing_is_refused(world: LedgerWorld) {
        for (mode, word) in [(Mode::Off, "off"), (Mode::Shadow, "shadow"), (Mode::Percent(0), "0 percent")] {
            world.routing(mode).await;
            assert!(refused(&world, &all()).await.contains(word));
        }
        assert_eq!(world.number("select count(*) from switchyard.run").await, 0);
    }

    async fn invalid_or_empty_time_ranges_are_refused(world: LedgerWorld) {
        assert!(refused(&world, &since("yesterday")).await.contains("since is not a time"));
        let backwards = BackfillSelection { until: Some(minute(1)), ..since(&minute(2)) };
        assert!(refused(&world, &backwards).await.contains("--since must be before --until"));
    }

    async fn from_the_beginning_is_refused_where_a_backfill_has_taken_some_of_it(world: LedgerWorld) {
        let subscribes = ["thing.made", "thing.changed", "thing.sold"];
        let sold = world.event("thing.sold").await;
        world.register(&subscribes, Mode::Full).await;
        let from_beginning = async || match world.store.register(&spec(&subscribes), Mode::Full, Since::Beginning).await {
            Err(StoreError::Config { problem, .. }) => problem,
            other => format!("{other:?}"),
        };
        world.backfill(&all()).await;
        assert!(from_beginning().await.contains("painter has a backfill of thing.sold"), "it is about to take it");
        world.store.cancel_backfill(AGENT, "ada").await.unwrap();
        assert_eq!(world.backfill_done(&all()).await, [sold]);
        let problem = from_beginning().await;
        assert!(problem.contains("switchyard backfill painter --since TIME"), "{problem}");
        world.sweep_past_everything().await;
        assert_eq!(world.number("select count(*) from switchyard.delivery").await, 1, "it was done once");
        world.register(&subscribes, Mode::Full).await;
    }

    async fn an_agent_has_one_backfill_at_a_time(world: LedgerWorld) {
        world.backfill(&all()).await;
        assert!(refused(&world, &all()).await.contains("--progress"));
        world.store.pause_backfill(AGENT, "ada").await.unwrap();
        assert!(refused(&world, &all()).await.contains("--progress"), "a paused one, too");
    }

    async fn of_two_concurrent_starts_one_is_refused(world: LedgerWorld) {
        let starting = [0, 1].map(|_| {
            let store = world.store.clone();
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

    async fn a_backfill_that_is_not_running_cannot_be_paused_or_cancelled(world: LedgerWorld) {
        let words = |error: StoreError| error.to_string();
        let answers = [
            world.store.pause_backfill(AGENT, "ada").await.map_err(words),
            world.store.resume_backfill(AGENT, None, "ada").await.map_err(words),
            world.store.cancel_backfill(AGENT, "ada").await.map(|_| ()).map_err(words),
        ];
        for answer in answers {
            assert!(answer.unwrap_err().contains("painter has no running backfill"));
        }
        assert_eq!(world.store.backfill_progress(AGENT).await.unwrap(), None);
    }

    async fn a_paused_one_takes_nothing_and_goes_on_where_it_was(world: LedgerWorld) {
        let events = world.histories(6).await;
        world.backfill(&all()).await;
        world.prepare().await;
        assert_eq!(world.take(2).await, events[..2]);
        world.store.pause_backfill(AGENT, "ada").await.unwrap();
        assert!(world.take(2).await.is_empty());
        assert_eq!(world.store.backfills_running().await.unwrap(), []);
        world.store.resume_backfill(AGENT, Some(7), "ada").await.unwrap();
        assert_eq!(world.progress().await.per_second, 7);
        assert_eq!(world.store.backfill_now(AGENT).await.unwrap().unwrap().allowance, 0, "what it has missed is not made up for");
        assert_eq!(world.take(2).await, events[2..4]);
    }

    async fn a_hundred_more_parked_deliveries_pause_it_and_a_resume_resets_the_count(world: LedgerWorld) {
        let events = world.histories(103).await;
        let run = world.backfill(&all()).await;
        world.prepare().await;
        world.take(101).await;
        for event in &events[..100] {
            world.park_as(*event, run, None).await;
        }
        assert!(world.take(1).await.is_empty());
        let progress = world.progress().await;
        assert_eq!(progress.state, BackfillState::Paused);
        assert!(progress.waits.unwrap().contains("switchyard dlq painter"));
        world.store.resume_backfill(AGENT, None, "ada").await.unwrap();
        assert_eq!(world.take(1).await, events[101..102]);
    }

    async fn the_estimate_uses_the_rate_since_the_last_resume(world: LedgerWorld) {
        world.histories(30).await;
        world.backfill(&all()).await;
        world.prepare().await;
        assert_eq!(world.progress().await.ends_at, None, "nothing was measured yet");
        world.take(10).await;
        world.run_sql("update switchyard.backfill set measured_at = clock_timestamp() - interval '100 seconds'").await;
        let progress = world.progress().await;
        let pace = progress.pace.unwrap();
        assert!((0.09..=0.1).contains(&pace), "{pace}");
        let left = "select extract(epoch from ends_at::timestamptz - clock_timestamp()) from switchyard.backfill_progress('painter')";
        let left = world.number(left).await;
        assert!((195..=215).contains(&left), "{left} s for 20 at 0.1 a second");
    }

    async fn every_order_records_its_operator(world: LedgerWorld) {
        world.backfill(&all()).await;
        world.store.pause_backfill(AGENT, "bob").await.unwrap();
        world.store.resume_backfill(AGENT, Some(3), "eve").await.unwrap();
        world.store.cancel_backfill(AGENT, "joe").await.unwrap();
        let said = world.one("select string_agg(by || ' ' || action, ', ' order by id) from switchyard.audit where action like 'backfill%'", &[]).await;
        assert_eq!(said.get::<_, String>(0), "ada backfill_start, bob backfill_pause, eve backfill_resume, joe backfill_cancel");
        assert_eq!(world.number("select count(*) from switchyard.run where kind = 'backfill' and by = 'ada' and not open").await, 1);
    }
}
