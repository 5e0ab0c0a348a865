//! Everything of ours can go again, and the application's tables are what they were.

use super::shop::{Shop, empty};
use switchyard_store::{StoreError, WaitPolicy, index_history, installed, migrate, remove};
use switchyard_tests::database::{Database, set_up};
use tokio_postgres::Client;

/// All that the application can see of its tables: where each lies, its rows with their places, its columns, indexes, constraints and triggers.
async fn everything(client: &Client) -> Vec<String> {
    let tables = "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema', 'switchyard') and n.nspname not like 'pg\\_%' order by 1";
    let mut all = Vec::new();
    for row in client.query(tables, &[]).await.unwrap() {
        let table: String = row.get(0);
        let shape = format!(
            "select pg_relation_filepath(c.oid) || c.relreplident::text || coalesce(c.reloptions::text, '') || coalesce(c.relacl, acldefault('r', c.relowner))::text
                    || (select string_agg(a.attname || format_type(a.atttypid, a.atttypmod) || a.attnotnull, ',' order by a.attnum) from pg_attribute a where a.attrelid = c.oid)
                    || coalesce((select string_agg(pg_get_indexdef(i.indexrelid), ',' order by 1) from pg_index i where i.indrelid = c.oid), '')
                    || coalesce((select string_agg(pg_get_constraintdef(k.oid), ',' order by 1) from pg_constraint k where k.conrelid = c.oid), '')
                    || coalesce((select string_agg(pg_get_triggerdef(t.oid), ',' order by 1) from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal), '')
               from pg_class c where c.oid = '{table}'::regclass"
        );
        // With the place and the transaction of each row: not even rewritten.
        let rows = format!(
            "select coalesce(string_agg(md5(x.ctid || ' ' || x.xmin || ' ' || x::text), ',' order by x.ctid), '') from {table} x"
        );
        for sql in [shape, rows] {
            all.push(format!("{table}: {}", client.query_one(&sql, &[]).await.unwrap().get::<_, String>(0)));
        }
    }
    all
}

async fn is_gone(client: &Client) -> bool {
    let ours = "select to_regnamespace('switchyard') is null and not exists (select 1 from pg_trigger where tgname like 'switchyard%')
        and to_regclass('public.switchyard_history') is null";
    client.query_one(ours, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn what_was_there_before_is_untouched_by_an_installation_and_a_removal() {
    let events = "create table events (id uuid primary key, type text, aggregate_type text, aggregate_id uuid, payload jsonb, metadata jsonb,
        version integer, created_at timestamptz default now());
        insert into events (id, type, payload) select gen_random_uuid(), 'old.news', '{\"a\": 1.50}' from generate_series(1, 500)";
    let (database, client) = empty(&format!("{events};{}", switchyard_feedback::TABLES)).await;
    let url = database.url().parse().unwrap();
    let before = everything(&client).await;
    assert_eq!(set_up(&url).await.unwrap().triggers.len(), 11);
    assert!(index_history(&url).await.unwrap());
    let found = remove(&url, &WaitPolicy::default()).await.unwrap().unwrap();
    assert_eq!(found.on_the_applications_tables.len(), 13, "{found:?}");
    assert!(is_gone(&client).await);
    assert_eq!(everything(&client).await, before);
    assert_eq!(remove(&url, &WaitPolicy::default()).await.unwrap(), None, "there is nothing left");
}

#[tokio::test]
async fn the_events_stay_and_a_second_installation_begins_anew() {
    let shop = Shop::full().await;
    let url = shop.database.url().parse().unwrap();
    shop.event(7, r#"{"a": 1}"#).await;
    let rows = everything(&shop.client().await).await;
    let told = installed(&url).await.unwrap().unwrap();
    assert_eq!((told.agents, told.logged, told.unpublished), (1, 1, 1));
    assert_eq!(everything(&shop.client().await).await, rows, "to look takes nothing away");
    assert_eq!(remove(&url, &WaitPolicy::default()).await.unwrap(), Some(told));
    assert_eq!(shop.number(r#"select count(*) from shop."Order Events""#).await, 1);
    shop.event(8, "{}").await;
    super::shop::install(&shop.database, super::shop::FULL_MAPPING).await.unwrap();
    shop.event(9, "{}").await;
    assert_eq!(shop.pending().await.iter().map(|event| event.aggregate_id.as_str()).collect::<Vec<_>>(), ["9"]);
}

#[tokio::test]
async fn nothing_is_removed_while_application_objects_depend_on_ours() {
    let database = Database::migrated().await;
    let (client, url) = (database.connect().await, database.url().parse().unwrap());
    let own = "create view backlog as select count(*) from switchyard.outbox;
        create table notes (at text default switchyard.rfc3339(now()));
        create function asks() returns setof switchyard.agent language sql as 'select * from switchyard.agent';
        create function heard() returns trigger language plpgsql as 'begin return null; end';
        create trigger hears after insert on switchyard.failure for each row execute function heard()";
    client.batch_execute(own).await.unwrap();
    let refused = remove(&url, &WaitPolicy::default()).await.unwrap_err();
    let StoreError::Config { problem, .. } = refused else { panic!("{refused}") };
    for object in ["view public.backlog", "public.notes", "public.asks()", "trigger hears on switchyard.failure"] {
        assert!(problem.contains(object), "{object}: {problem}");
    }
    client.batch_execute("insert into events (id, type) values (gen_random_uuid(), 'x')").await.unwrap();
    let logged = client.query_one("select count(*) from switchyard.outbox", &[]).await.unwrap();
    assert_eq!(logged.get::<_, i64>(0), 1, "and all of it goes on");
    client
        .batch_execute(
            "drop view backlog; drop table notes; drop function asks(); drop trigger hears on switchyard.failure",
        )
        .await
        .unwrap();
    assert!(remove(&url, &WaitPolicy::default()).await.unwrap().is_some());
    assert!(is_gone(&client).await);
}

#[tokio::test]
async fn an_interrupted_removal_can_be_completed() {
    let database = Database::migrated().await;
    let (client, url) = (database.connect().await, database.url().parse().unwrap());
    client.batch_execute("drop trigger switchyard_log on events; drop table switchyard.outbox cascade; drop table switchyard.mapping").await.unwrap();
    let found = remove(&url, &WaitPolicy::default()).await.unwrap().unwrap();
    assert!(found.on_the_applications_tables.is_empty());
    assert!(is_gone(&client).await);
}

#[tokio::test]
async fn a_partitioned_table_gets_its_trigger_and_loses_it() {
    let partitioned = "create table events (id uuid primary key, type text, aggregate_type text, aggregate_id uuid, payload jsonb, metadata jsonb,
        version integer, created_at timestamptz default now()) partition by hash (id);
        create table events_0 partition of events for values with (modulus 2, remainder 0);
        create table events_1 partition of events for values with (modulus 2, remainder 1)";
    let (database, client) = empty(partitioned).await;
    let url = database.url().parse().unwrap();
    migrate(&url).await.unwrap();
    client
        .batch_execute("insert into events (id, type) select gen_random_uuid(), 'x' from generate_series(1, 20)")
        .await
        .unwrap();
    let logged = client.query_one("select count(*) from switchyard.outbox", &[]).await.unwrap();
    assert_eq!(logged.get::<_, i64>(0), 20);
    let found = remove(&url, &WaitPolicy::default()).await.unwrap().unwrap();
    assert_eq!(found.on_the_applications_tables, ["trigger switchyard_log on public.events"]);
    assert!(is_gone(&client).await);
}
