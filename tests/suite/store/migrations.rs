//! Migrations, on whatever database they meet.

use switchyard_store::{StoreError, migrate};
use switchyard_tests::database::{Database, set_up};

use super::world::Deadline;

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
    assert_eq!(first.applied.first().map(String::as_str), Some("tables/events"));
    let client = database.connect().await;
    let before = shape(&client).await;
    let second = migrate(&url).await.unwrap();
    assert!(second.applied.is_empty() && second.triggers.is_empty(), "{second:?}");
    assert_eq!(shape(&client).await, before);
    let public: i64 =
        client.query_one("select count(*) from pg_tables where schemaname = 'public'", &[]).await.unwrap().get(0);
    assert_eq!(public, 1, "all of ours is in its own schema, the history too");
}

#[tokio::test]
async fn a_table_with_rows_keeps_its_rows_columns_and_indexes() {
    let database = Database::empty().await;
    let client = database.connect().await;
    client.batch_execute(CUSTOMERS).await.unwrap();
    client
        .batch_execute("insert into events select gen_random_uuid(), 'old.news' from generate_series(1, 500)")
        .await
        .unwrap();
    let before = shape(&client).await;
    migrate(&database.url().parse().unwrap()).await.unwrap();
    assert_eq!(shape(&client).await, before);
    client.batch_execute("insert into events values (gen_random_uuid(), 'fresh.news')").await.unwrap();
    let row = client
        .query_one("select (select count(*) from events), (select count(*) from switchyard.event_log)", &[])
        .await
        .unwrap();
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i64>(1)),
        (501, 1),
        "what was there is history, what comes is logged"
    );
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
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let deadline = Deadline::new("the migration waiting");
        while other.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            deadline.check();
        }
        // Queued behind the waiting DDL, but only until that gives up for a moment.
        other
            .batch_execute("set statement_timeout = '500ms'; insert into events values (gen_random_uuid(), 'y')")
            .await
            .unwrap();
        application.batch_execute("commit").await.unwrap();
    };
    let (migrated, ()) = tokio::join!(migration, insert_meanwhile);
    assert!(migrated.unwrap().applied.contains(&"log_trigger".to_owned()));
}

#[tokio::test]
async fn a_table_of_another_shape_is_refused_in_words() {
    let database = Database::empty().await;
    let client = database.connect().await;
    client.batch_execute("create table events (id bigint primary key, kind text)").await.unwrap();
    let refused = migrate(&database.url().parse().unwrap()).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Config { problem, .. } if problem.contains("id") && problem.contains("payload")),
        "{refused}"
    );
    client.batch_execute("insert into events values (1, 'x')").await.unwrap();
}

#[tokio::test]
async fn tables_that_come_later_get_their_triggers_from_the_next_migration() {
    let database = Database::empty().await;
    let url = database.url().parse().unwrap();
    assert_eq!(set_up(&url).await.unwrap().triggers, [""; 0]);
    database.connect().await.batch_execute(switchyard_feedback::TABLES).await.unwrap();
    assert_eq!(migrate(&url).await.unwrap().triggers.len(), 11);
    assert!(migrate(&url).await.unwrap().triggers.is_empty());
}

#[tokio::test]
async fn a_table_on_which_our_trigger_or_the_shim_would_fail_is_refused_in_words() {
    let like = "create table events (id uuid primary key, type text, aggregate_type text, aggregate_id uuid, payload jsonb, metadata jsonb,
        version integer, created_at timestamptz)";
    for (from, to, problem) in [
        ("type text, aggregate_type text", "type kind, aggregate_type text", "type"),
        ("id uuid primary key", "id uuid", "key on id"),
        ("id uuid primary key", "id uuid unique", "key on id"),
        ("id uuid primary key", "id uuid not null", "key on id"),
        ("created_at timestamptz)", "created_at timestamptz, constraint u unique (id, created_at))", "key on id"),
        ("version integer", "version text", "version"),
        ("version integer", "version bigint", "version"),
        ("created_at timestamptz", "created_at bigint", "created_at"),
    ] {
        let database = Database::empty().await;
        let client = database.connect().await;
        let mut sql = like.replacen(from, to, 1);
        if to.contains("constraint u") {
            sql = sql.replace("id uuid primary key", "id uuid not null");
        }
        client.batch_execute(&format!("create type kind as enum ('x', 'y'); {sql}")).await.unwrap();
        let refused = migrate(&database.url().parse().unwrap()).await.unwrap_err();
        assert!(matches!(&refused, StoreError::Config { problem: p, .. } if p.contains(problem)), "{to}: {refused}");
        let logged =
            client.query_one("select count(*) from pg_trigger where tgrelid = 'events'::regclass", &[]).await.unwrap();
        assert_eq!(logged.get::<_, i64>(0), 0, "{to}: and nothing of ours stands in the way of the inserts");
    }
}

#[tokio::test]
async fn a_key_of_its_own_beside_another_primary_key_is_enough() {
    let database = Database::empty().await;
    let client = database.connect().await;
    client
        .batch_execute(
            "create table events (n bigint generated always as identity primary key, id uuid not null unique, type varchar(80), aggregate_type text,
               aggregate_id text, payload jsonb, metadata jsonb, version smallint, created_at timestamp default now())",
        )
        .await
        .unwrap();
    migrate(&database.url().parse().unwrap()).await.unwrap();
    client
        .batch_execute("insert into events (id, type, aggregate_id) values (gen_random_uuid(), 'x', 'a-1')")
        .await
        .unwrap();
    client.batch_execute("select switchyard.publish('x', 'y', null, '{}')").await.unwrap();
    assert_eq!(client.query_one("select count(*) from switchyard.outbox", &[]).await.unwrap().get::<_, i64>(0), 2);
}

#[tokio::test]
async fn a_busy_table_delays_no_other_table() {
    let database = Database::empty().await;
    let url = database.url().parse().unwrap();
    set_up(&url).await.unwrap();
    let (busy, other) = (database.connect().await, database.connect().await);
    busy.batch_execute(switchyard_feedback::TABLES).await.unwrap();
    let id = "11111111-1111-4111-8111-111111111111";
    busy.batch_execute(&format!("insert into posts (id, project_id, title) values ('{id}', '{id}', 'x')"))
        .await
        .unwrap();
    busy.batch_execute(&format!(
        "begin; insert into comments (post_id, project_id, content) values ('{id}', '{id}', 'x')"
    ))
    .await
    .unwrap();
    let migration = migrate(&url);
    let meanwhile = async {
        // `posts` itself is held by the reference from `comments`; nothing refers to `themes`.
        let installed =
            "select count(*) from pg_trigger where tgrelid = 'themes'::regclass and tgname = 'switchyard_insert'";
        let deadline = Deadline::new("the trigger of a quiet table");
        while other.query_one(installed, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            deadline.check();
        }
        other.batch_execute("set statement_timeout = '500ms'").await.unwrap();
        other.batch_execute(&format!("insert into posts (project_id, title) values ('{id}', 'y')")).await.unwrap();
        let missing = other.query_one("select count(*) from switchyard.missing_triggers()", &[]).await.unwrap();
        assert!(missing.get::<_, i64>(0) > 0, "comments is still busy");
        busy.batch_execute("commit").await.unwrap();
    };
    let (migrated, ()) = tokio::join!(migration, meanwhile);
    assert_eq!(migrated.unwrap().triggers.len(), 11);
}

#[tokio::test]
async fn a_migration_that_fails_leaves_no_setting_and_no_lock_in_a_poolers_hands() {
    if !switchyard_tests::pooler::Pooler::is_installed() {
        return;
    }
    let database = Database::empty().await;
    let client = database.connect().await;
    client.batch_execute("create table events (id bigint primary key, kind text)").await.unwrap();
    let pooled = database.pooled_url().await;
    migrate(&pooled.parse().unwrap()).await.unwrap_err();
    let locks = "select count(*) from pg_locks l join pg_database d on d.oid = l.database where l.locktype = 'advisory' and d.datname = current_database()";
    assert_eq!(client.query_one(locks, &[]).await.unwrap().get::<_, i64>(0), 0);
    let next = switchyard_tests::database::connect(&pooled).await;
    let timeout = next.query_typed("select current_setting('lock_timeout')", &[]).await.unwrap();
    assert_eq!(timeout[0].get::<_, &str>(0), "0");
}
