//! How history gets its places in the log.

use super::scene::{all, minute, since};
use crate::store::{directly_and_pooled, scene::AGENT};
use switchyard_store::{BackfillPhase, StoreError};

directly_and_pooled! {
    async fn history_gets_sequences_below_every_live_event(scene: Scene) {
        let live = scene.event("thing.made").await;
        let late = scene.history("thing.made", 30).await;
        let early = scene.history("thing.made", 10).await;
        let middle = scene.history("other.type", 20).await;
        scene.backfill(&all()).await;
        scene.prepare().await;
        let seqs = [scene.seq(early).await, scene.seq(middle).await, scene.seq(late).await, scene.seq(live).await];
        assert_eq!(seqs, [-3, -2, -1, 1]);
    }

    async fn a_backfill_that_reaches_further_back_goes_on_below(scene: Scene) {
        let events = scene.histories(6).await;
        scene.backfill(&since(&minute(4))).await;
        scene.prepare().await;
        assert_eq!(scene.number("select count(*) from switchyard.event_log").await, 2, "no further than it must");
        scene.store.cancel_backfill(AGENT, "ada").await.unwrap();
        scene.backfill(&all()).await;
        scene.prepare().await;
        for (event, seq) in events.iter().zip([-6, -5, -4, -3, -2, -1]) {
            assert_eq!(scene.seq(*event).await, seq);
        }
    }

    async fn events_with_the_same_time_get_different_sequences(scene: Scene) {
        for _ in 0..7 {
            scene.history("thing.made", 5).await;
        }
        scene.backfill(&all()).await;
        for _ in 0..10 {
            scene.run_sql("select switchyard.prepare_backfill('painter', 2, 100)").await;
        }
        let places = "select count(distinct seq) from switchyard.event_log where seq between -7 and -1";
        assert_eq!(scene.number(places).await, 7);
        let in_order = "select count(*) from (select event_id > lag(event_id) over (order by seq) as up from switchyard.event_log) x where not up";
        assert_eq!(scene.number(in_order).await, 0);
    }

    async fn an_event_inserted_during_a_backfill_is_live_whatever_its_time(scene: Scene) {
        scene.histories(4).await;
        scene.backfill(&all()).await;
        let came = scene.event("thing.made").await;
        scene.run_sql("update events set created_at = '2020-01-01T00:02:30Z' where created_at > '2021-01-01'").await;
        scene.prepare().await;
        assert!(scene.seq(came).await > 0);
        let taken = scene.take_all().await;
        assert_eq!((taken.len(), taken.contains(&came)), (4, false), "it is delivered live, and not twice");
        assert_eq!(scene.claim(came).await, switchyard_store::Verdict::Take);
    }

    async fn history_that_is_deleted_meanwhile_expires(scene: Scene) {
        let events = scene.histories(3).await;
        let run = scene.backfill(&all()).await;
        scene.prepare().await;
        scene.take_all().await;
        scene.run_sql(&format!("delete from events where id = '{}'", events[1])).await;
        scene.let_time_pass().await;
        assert_eq!(scene.due().await, [(events[0], run, 0), (events[2], run, 0)]);
        assert!(scene.delivery(events[1], run).await.unwrap().is("n", "e"));
    }

    async fn what_was_numbered_is_neither_published_nor_missing_nor_swept(scene: Scene) {
        scene.histories(3).await;
        let live = scene.event("thing.made").await;
        scene.backfill(&all()).await;
        scene.prepare().await;
        assert_eq!(scene.pending(10).await.iter().map(|row| row.id).collect::<Vec<_>>(), [live]);
        assert_eq!(scene.sweep().await, 1);
        assert_eq!(scene.number("select count(*) from switchyard.missing('painter')").await, 0);
        scene.publish_all().await;
        scene.claim(live).await;
        assert_eq!(scene.store.publish_again().await.unwrap(), 0);
    }

    async fn history_outside_the_selection_is_not_read(scene: Scene) {
        scene.histories(3).await;
        scene.backfill(&since("2021-01-01T00:00:00Z")).await;
        let phase = scene.progress().await.phase;
        assert!(matches!(phase, BackfillPhase::Numbering | BackfillPhase::Counting));
        scene.prepare().await;
        assert_eq!(scene.number("select count(*) from switchyard.event_log").await, 0);
    }

    async fn a_large_table_without_the_index_is_refused_with_the_way_out(scene: Scene) {
        scene.run_sql("drop index if exists switchyard_history; alter table events alter payload set storage plain").await;
        scene.run_sql("alter table events disable trigger switchyard_log").await;
        scene
            .run_sql(
                "insert into events (id, type, payload, created_at)
                 select gen_random_uuid(), 'thing.made', to_jsonb(repeat('x', 7000)), '2020-01-01' from generate_series(1, 9000)",
            )
            .await;
        let refused = scene.store.start_backfill(AGENT, &all(), 50, "ada").await;
        assert!(matches!(&refused, Err(StoreError::Config { problem, .. }) if problem.contains("--index-history")), "{refused:?}");
        assert!(switchyard_store::index_history(&scene.url()).await.unwrap());
        assert!(!switchyard_store::index_history(&scene.url()).await.unwrap(), "it is there");
        scene.backfill(&all()).await;
        switchyard_store::drop_history_index(&scene.url()).await.unwrap();
        assert_eq!(scene.number("select count(*) from pg_class where relname = 'switchyard_history'").await, 0);
    }
}
