//! What is read with every batch and every minute is found by index, however the tables have grown since a session has planned it.

use super::directly_and_pooled;
use super::scene::{AGENT, Scene};
use switchyard_store::{Ask, Type, Verdict};
use uuid::Uuid;

/// More than a plan that reads all of a table may read.
const MANY: i64 = 20_000;

/// Inserts so many events that were published, and that the agent has done.
async fn history(scene: &Scene, events: i64) {
    let insert = format!(
        "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version, created_at)
         select gen_random_uuid(), 'thing.made', 'thing', gen_random_uuid(), '{{}}', '{{}}', 1, now() - interval '1 day' from generate_series(1, {events})"
    );
    scene.run_sql(&insert).await;
    scene.publish_all().await;
    scene
        .run_sql("insert into switchyard.delivery (agent, run, seq, owner, state) select a.id, 0, l.seq, 'n', 'd' from switchyard.event_log l, switchyard.agent a on conflict do nothing")
        .await;
}

/// How many rows of the log, the ledger and the events were read by reading all of a table. Statistics are written when a transaction ends, and
/// by another session a moment later.
async fn read_in_passing(scene: &Scene) -> i64 {
    scene.run_sql("select pg_stat_clear_snapshot()").await;
    let sql = "select coalesce(sum(seq_tup_read), 0) from pg_stat_user_tables
                where relname like 'delivery%' or relname in ('event_log', 'events', 'subscription', 'cancelled', 'revision')";
    scene.number(sql).await
}

/// Lets the sessions of the store write down what they have read.
async fn settled(scene: &Scene) {
    scene.store.query("select pg_stat_force_next_flush()", &[]).await.unwrap();
    scene.store.query("select 1", &[]).await.unwrap();
}

async fn take(scene: &Scene, events: &[Uuid]) {
    let asks: Vec<Ask> = events.iter().copied().map(Ask::live).collect();
    for standing in scene.store.preview(AGENT, &asks).await.unwrap().answers {
        assert_eq!(standing.verdict, Verdict::Take);
    }
    let mut tx = scene.store.begin().await.unwrap();
    for standing in tx.claim(AGENT, &asks).await.unwrap() {
        assert_eq!(standing.verdict, Verdict::Take);
    }
    tx.commit().await.unwrap();
}

directly_and_pooled! {
    async fn a_batch_is_found_by_index_with_plans_that_were_made_when_the_ledger_was_empty(scene: Scene) {
        // Nothing but time makes a session plan anew.
        scene.run_sql("alter table switchyard.event_log set (autovacuum_enabled = off)").await;
        for _ in 0..8 {
            let events = [scene.event("thing.made").await, scene.event("thing.changed").await];
            take(&scene, &events).await;
        }
        history(&scene, MANY).await;
        settled(&scene).await;
        let before = read_in_passing(&scene).await;

        for _ in 0..8 {
            take(&scene, &[scene.event("thing.made").await, scene.event("thing.changed").await]).await;
        }

        settled(&scene).await;
        let read = read_in_passing(&scene).await - before;
        assert!(read < MANY, "{read} rows");
    }

    async fn a_tick_finds_what_was_not_logged_without_reading_the_log(scene: Scene) {
        history(&scene, MANY).await;
        scene.run_sql("analyze events; analyze switchyard.event_log").await;
        scene.event("thing.made").await;
        scene.run_sql("alter table events disable trigger switchyard_log").await;
        let unlogged = scene.event("thing.made").await;
        scene.run_sql("alter table events enable always trigger switchyard_log").await;
        settled(&scene).await;
        let before = read_in_passing(&scene).await;

        let tick = scene.store.tick().await.unwrap();

        assert_eq!(tick.logged_late, 1);
        assert_eq!(scene.one("select count(*) from switchyard.event_log where event_id = $1", &[(&unlogged, Type::UUID)]).await.get::<_, i64>(0), 1);
        settled(&scene).await;
        let read = read_in_passing(&scene).await - before;
        assert!(read < MANY, "{read} rows");
    }
}
