//! Migrations, on whatever database they meet.

use switchyard_store::{StoreError, migrate};
use switchyard_tests::database::Database;

use super::scene::Patience;

const CUSTOMERS: &str = "create table events (id uuid primary key, type text, aggregate_type text, aggregate_id uuid, payload jsonb,
    metadata jsonb, version integer, created_at timestamptz default now());
    create index on events (type); create index on events (aggregate_type, aggregate_id); create index on events (created_at);";

const SHAPE: &str = "select coalesce(string_agg(x, e'\\n'), '') from (
    select column_name || ' ' || udt_name || ' ' || is_nullable || ' ' || coalesce(column_default, '') as x, ordinal_position as p
      from information_schema.columns where table_schema = 'public' and table_name = 'events'
    union all select indexdef, 1000 from pg_indexes where schemaname = 'public' and tablename = 'events'
    union all select conname || pg_get_constraintdef(oid), 2000 from pg_constraint where conrelid = 'public.events'::regclass
    order by 2, 1) y";

async fn shape(client: &tokio_postgres::Client) -> String {
    client.query_one(SHAPE, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn an_empty_database_gets_everything_and_a_second_time_changes_nothing() {
    let database = Database::empty().await;
    let url = database.url().parse().unwrap();
    let first = migrate(&url).await.unwrap();
    assert_eq!(first.applied.first().map(String::as_str), Some("V1__events"));
    let client = database.connect().await;
    let before = shape(&client).await;
    let second = migrate(&url).await.unwrap();
    assert!(second.applied.is_empty() && second.triggers.is_empty(), "{second:?}");
    assert_eq!(shape(&client).await, before);
    let public: i64 = client.query_one("select count(*) from pg_tables where schemaname = 'public'", &[]).await.unwrap().get(0);
    assert_eq!(public, 1, "all of ours is in its own schema, the history too");
}

#[tokio::test]
async fn a_table_with_rows_keeps_its_rows_columns_and_indexes() {
    let database = Database::empty().await;
    let client = database.connect().await;
    client.batch_execute(CUSTOMERS).await.unwrap();
    client.batch_execute("insert into events select gen_random_uuid(), 'old.news' from generate_series(1, 500)").await.unwrap();
    let before = shape(&client).await;
    migrate(&database.url().parse().unwrap()).await.unwrap();
    assert_eq!(shape(&client).await, before);
    client.batch_execute("insert into events values (gen_random_uuid(), 'fresh.news')").await.unwrap();
    let row = client.query_one("select (select count(*) from events), (select count(*) from switchyard.event_log)", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (501, 1), "what was there is history, what comes is logged");
}

#[tokio::test]
async fn the_table_that_we_make_is_the_one_that_customers_have() {
    let [theirs, ours] = [Database::empty().await, Database::empty().await];
    let (their_client, our_client) = (theirs.connect().await, ours.connect().await);
    their_client.batch_execute(CUSTOMERS).await.unwrap();
    migrate(&ours.url().parse().unwrap()).await.unwrap();
    assert_eq!(shape(&their_client).await, shape(&our_client).await);
}

#[tokio::test]
async fn two_migrators_at_once_do_not_collide() {
    let database = Database::empty().await;
    let url = database.url().parse().unwrap();
    let (a, b) = tokio::join!(migrate(&url), migrate(&url));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(a.applied.is_empty() ^ b.applied.is_empty(), "{a:?} {b:?}");
}

#[tokio::test]
async fn a_migration_waits_for_the_applications_transaction_in_short_steps() {
    let database = Database::empty().await;
    let (application, other) = (database.connect().await, database.connect().await);
    application.batch_execute(CUSTOMERS).await.unwrap();
    application.batch_execute("begin; insert into events values (gen_random_uuid(), 'x')").await.unwrap();
    let url = database.url().parse().unwrap();
    let migration = migrate(&url);
    let insert_meanwhile = async {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let patience = Patience::new("the migration waiting");
        while other.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            patience.check();
        }
        // Queued behind the waiting DDL, but only until that gives up for a moment.
        other.batch_execute("set statement_timeout = '4s'; insert into events values (gen_random_uuid(), 'y')").await.unwrap();
        application.batch_execute("commit").await.unwrap();
    };
    let (migrated, ()) = tokio::join!(migration, insert_meanwhile);
    assert!(migrated.unwrap().applied.contains(&"V2__event_log".to_owned()));
}

#[tokio::test]
async fn a_table_of_another_shape_is_refused_in_words() {
    let database = Database::empty().await;
    let client = database.connect().await;
    client.batch_execute("create table events (id bigint primary key, kind text)").await.unwrap();
    let refused = migrate(&database.url().parse().unwrap()).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Config { problem, .. } if problem.contains("id") && problem.contains("payload")), "{refused}");
    client.batch_execute("insert into events values (1, 'x')").await.unwrap();
}

#[tokio::test]
async fn tables_that_come_later_get_their_triggers_from_the_next_migration() {
    let database = Database::empty().await;
    let url = database.url().parse().unwrap();
    assert!(migrate(&url).await.unwrap().triggers.is_empty());
    database.connect().await.batch_execute(include_str!("../../../localstack/signalsloop.sql")).await.unwrap();
    assert_eq!(migrate(&url).await.unwrap().triggers.len(), 11);
    assert!(migrate(&url).await.unwrap().triggers.is_empty());
}
