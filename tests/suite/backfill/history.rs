//! How history gets its places in the log.

use super::world::{all, minute, since};
use crate::store::{directly_and_pooled, world::AGENT};
use switchyard_store::{BackfillPhase, StoreError};

directly_and_pooled! {
    async fn history_gets_sequences_below_every_live_event(world: LedgerWorld) {
        let live = world.event("thing.made").await;
        let late = world.history("thing.made", 30).await;
        let early = world.history("thing.made", 10).await;
        let middle = world.history("other.type", 20).await;
        world.backfill(&all()).await;
        world.prepare().await;
        let seqs = [world.seq(early).await, world.seq(middle).await, world.seq(late).await, world.seq(live).await];
        assert_eq!(seqs, [-3, -2, -1, 1]);
    }

    async fn a_backfill_that_reaches_further_back_goes_on_below(world: LedgerWorld) {
        let events = world.histories(6).await;
        world.backfill(&since(&minute(4))).await;
        world.prepare().await;
        assert_eq!(world.number("select count(*) from switchyard.event_log").await, 2, "no further than it must");
        world.store.cancel_backfill(AGENT, "ada").await.unwrap();
        world.backfill(&all()).await;
        world.prepare().await;
        for (event, seq) in events.iter().zip([-6, -5, -4, -3, -2, -1]) {
            assert_eq!(world.seq(*event).await, seq);
        }
    }

    async fn events_with_the_same_time_get_different_sequences(world: LedgerWorld) {
        for _ in 0..7 {
            world.history("thing.made", 5).await;
        }
        world.backfill(&all()).await;
        for _ in 0..10 {
            world.run_sql("select switchyard.prepare_backfill('painter', 2, 100)").await;
        }
        let places = "select count(distinct seq) from switchyard.event_log where seq between -7 and -1";
        assert_eq!(world.number(places).await, 7);
        let in_order = "select count(*) from (select event_id > lag(event_id) over (order by seq) as up from switchyard.event_log) x where not up";
        assert_eq!(world.number(in_order).await, 0);
    }

    async fn an_event_inserted_during_a_backfill_is_live_whatever_its_time(world: LedgerWorld) {
        world.histories(4).await;
        world.backfill(&all()).await;
        let came = world.event("thing.made").await;
        world.run_sql("update events set created_at = '2020-01-01T00:02:30Z' where created_at > '2021-01-01'").await;
        world.prepare().await;
        assert!(world.seq(came).await > 0);
        let taken = world.take_all().await;
        assert_eq!((taken.len(), taken.contains(&came)), (4, false), "it is delivered live, and not twice");
        assert_eq!(world.claim(came).await, switchyard_store::Verdict::Take);
    }

    async fn history_that_is_deleted_meanwhile_expires(world: LedgerWorld) {
        let events = world.histories(3).await;
        let run = world.backfill(&all()).await;
        world.prepare().await;
        world.take_all().await;
        world.run_sql(&format!("delete from events where id = '{}'", events[1])).await;
        world.let_time_pass().await;
        assert_eq!(world.due().await, [(events[0], run, 0), (events[2], run, 0)]);
        assert!(world.delivery(events[1], run).await.unwrap().is("n", "e"));
    }

    async fn what_was_numbered_is_neither_published_nor_missing_nor_swept(world: LedgerWorld) {
        world.histories(3).await;
        let live = world.event("thing.made").await;
        world.backfill(&all()).await;
        world.prepare().await;
        assert_eq!(world.pending(10).await.iter().map(|row| row.id).collect::<Vec<_>>(), [live]);
        assert_eq!(world.sweep().await, 1);
        assert_eq!(world.number("select count(*) from switchyard.missing('painter')").await, 0);
        world.publish_all().await;
        world.claim(live).await;
        assert_eq!(world.store.publish_again().await.unwrap(), 0);
    }

    async fn history_outside_the_selection_is_not_read(world: LedgerWorld) {
        world.histories(3).await;
        world.backfill(&since("2021-01-01T00:00:00Z")).await;
        let phase = world.progress().await.phase;
        assert!(matches!(phase, BackfillPhase::Numbering | BackfillPhase::Counting));
        world.prepare().await;
        assert_eq!(world.number("select count(*) from switchyard.event_log").await, 0);
    }

    async fn a_large_table_without_the_index_is_refused_with_the_way_out(world: LedgerWorld) {
        world.run_sql("drop index if exists switchyard_history; alter table events alter payload set storage plain").await;
        world.run_sql("alter table events disable trigger switchyard_log").await;
        world
            .run_sql(
                "insert into events (id, type, payload, created_at)
                 select gen_random_uuid(), 'thing.made', to_jsonb(repeat('x', 7000)), '2020-01-01' from generate_series(1, 9000)",
            )
            .await;
        let refused = world.store.start_backfill(AGENT, &all(), 50, "ada").await;
        assert!(matches!(&refused, Err(StoreError::Config { problem, .. }) if problem.contains("--index-history")), "{refused:?}");
        assert!(switchyard_store::index_history(&world.url()).await.unwrap());
        assert!(!switchyard_store::index_history(&world.url()).await.unwrap(), "it is there");
        world.backfill(&all()).await;
        switchyard_store::drop_history_index(&world.url()).await.unwrap();
        assert_eq!(world.number("select count(*) from pg_class where relname = 'switchyard_history'").await, 0);
    }
}
