//! What is read with every batch and every minute is found by index, however the tables have grown since a session has planned it.

use super::directly_and_pooled;
use super::world::{AGENT, LedgerWorld};
use switchyard_store::{Ask, Type, Verdict};
use uuid::Uuid;

/// More than a plan that reads all of a table may read.
const MANY: i64 = 20_000;

/// Inserts so many events that were published, and that the agent has done.
async fn history(world: &LedgerWorld, events: i64) {
    let insert = format!(
        "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version, created_at)
         select gen_random_uuid(), 'thing.made', 'thing', gen_random_uuid(), '{{}}', '{{}}', 1, now() - interval '1 day' from generate_series(1, {events})"
    );
    world.run_sql(&insert).await;
    world.publish_all().await;
    world
        .run_sql("insert into switchyard.delivery (agent, run, seq, owner, state) select a.id, 0, l.seq, 'n', 'd' from switchyard.event_log l, switchyard.agent a on conflict do nothing")
        .await;
}

/// How many rows of the log, the ledger and the events were read by reading all of a table. Statistics are written when a transaction ends, and
/// by another session a moment later.
async fn read_in_passing(world: &LedgerWorld) -> i64 {
    world.run_sql("select pg_stat_clear_snapshot()").await;
    let sql = "select coalesce(sum(seq_tup_read), 0) from pg_stat_user_tables
                where relname like 'delivery%' or relname in ('event_log', 'events', 'subscription', 'cancelled', 'revision')";
    world.number(sql).await
}

/// Lets the sessions of the store write down what they have read.
async fn settled(world: &LedgerWorld) {
    world.run_sql("select pg_stat_force_next_flush()").await;
    world.store.query("select pg_stat_force_next_flush()", &[]).await.unwrap();
    world.store.query("select 1", &[]).await.unwrap();
}

async fn take(world: &LedgerWorld, events: &[Uuid]) {
    let asks: Vec<Ask> = events.iter().copied().map(Ask::live).collect();
    for standing in world.store.preview(AGENT, &asks).await.unwrap().answers {
        assert_eq!(standing.verdict, Verdict::Take);
    }
    let mut tx = world.store.begin().await.unwrap();
    for standing in tx.claim(AGENT, &asks).await.unwrap() {
        assert_eq!(standing.verdict, Verdict::Take);
    }
    tx.commit().await.unwrap();
}

directly_and_pooled! {
    async fn a_batch_is_found_by_index_with_plans_that_were_made_when_the_ledger_was_empty(world: LedgerWorld) {
        // Nothing but time makes a session plan anew.
        world.run_sql("alter table switchyard.event_log set (autovacuum_enabled = off)").await;
        for _ in 0..8 {
            let events = [world.event("thing.made").await, world.event("thing.changed").await];
            take(&world, &events).await;
        }
        history(&world, MANY).await;
        settled(&world).await;
        let before = read_in_passing(&world).await;

        for _ in 0..8 {
            take(&world, &[world.event("thing.made").await, world.event("thing.changed").await]).await;
        }

        settled(&world).await;
        let read = read_in_passing(&world).await - before;
        assert!(read < MANY, "{read} rows");
    }

    async fn a_tick_finds_what_was_not_logged_without_reading_the_log(world: LedgerWorld) {
        history(&world, MANY).await;
        world.run_sql("analyze events; analyze switchyard.event_log").await;
        world.event("thing.made").await;
        world.run_sql("alter table events disable trigger switchyard_log").await;
        let unlogged = world.event("thing.made").await;
        world.run_sql("alter table events enable always trigger switchyard_log").await;
        settled(&world).await;
        let before = read_in_passing(&world).await;

        let tick = world.store.tick().await.unwrap();

        assert_eq!(tick.logged_late, 1);
        assert_eq!(world.one("select count(*) from switchyard.event_log where event_id = $1", &[(&unlogged, Type::UUID)]).await.get::<_, i64>(0), 1);
        settled(&world).await;
        let read = read_in_passing(&world).await - before;
        assert!(read < MANY, "{read} rows");
    }
}

/// A comparison reads an hour of the log, which may be a million events: as a part of its own statement, and not into memory first.
#[tokio::test]
async fn the_events_of_a_comparison_are_read_as_a_part_of_its_statement() {
    let world = LedgerWorld::direct().await;
    let statement =
        "explain select from switchyard.logged_between(switchyard.types_of('x'), now() - interval '1 hour', now())";
    let rows = world.side.query(statement, &[]).await.unwrap();
    let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    assert!(plan.contains("event_log") && !plan.contains("Scan on logged_between"), "{plan}");
}
