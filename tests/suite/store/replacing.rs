//! Functions, as the next setup replaces them.

use switchyard_store::{DatabaseUrl, Migrated, Progress, StoreError, WaitPolicy, migrate, migrate_with};
use switchyard_tests::database::Database;
use tokio_postgres::Client;

/// Each function of ours: how it is called, what it returns, its body, and who may call it.
async fn functions(client: &Client) -> Vec<String> {
    let sql = "select p.oid::regprocedure || ' ' || pg_get_functiondef(p.oid) || ' ' || (
                 select coalesce(string_agg(a.grantee::regrole::text, ' ' order by 1), '') from aclexplode(p.proacl) a where a.grantee <> p.proowner)
            from pg_proc p where p.pronamespace = 'switchyard'::regnamespace order by 1";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn open_to_everybody(client: &Client) -> Vec<String> {
    let sql = "select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'switchyard'::regnamespace and has_function_privilege('public', p.oid, 'execute')";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// A database as a version before has left it: its functions are others.
async fn of_a_version_before(changes: &str) -> (Database, Client, DatabaseUrl) {
    let database = Database::migrated().await;
    let client = database.connect().await;
    client.batch_execute(changes).await.unwrap();
    client.batch_execute("update switchyard.setup set sha256 = 'another' where name = 'functions'").await.unwrap();
    let url = database.url().parse().unwrap();
    (database, client, url)
}

#[tokio::test]
async fn functions_become_those_of_the_files_whatever_was_there() {
    let wanted = functions(&Database::migrated().await.connect().await).await;
    let (_database, client, url) = of_a_version_before(
        "create function switchyard._removed() returns int language sql as 'select 1';
         create function switchyard.calls_it() returns int language sql return switchyard._removed();
         create or replace function switchyard.last_seq() returns bigint language sql as 'select 7::bigint';
         create function switchyard.todo_old(agent text) returns setof uuid language sql as 'select null::uuid';
         drop function switchyard.chain_of; create function switchyard.chain_of(p_event uuid, p_at_most bigint) returns int language sql as 'select 1';
         drop function switchyard._resend_after; create function switchyard._resend_after(a interval, b smallint, c bigint) returns interval language sql as 'select a';
         drop function switchyard._max_attempts_of cascade;
         create function switchyard._max_attempts_of(metadata jsonb, other int default 1) returns smallint language sql immutable return 1::smallint;",
    )
    .await;
    assert_eq!(migrate(&url).await.unwrap().applied, ["functions"]);
    assert_eq!(functions(&client).await, wanted);
    client.batch_execute("insert into events (id, type) values (gen_random_uuid(), 'x')").await.unwrap();
    assert_eq!(client.query_one("select switchyard.last_seq()", &[]).await.unwrap().get::<_, i64>(0), 1);
    assert!(migrate(&url).await.unwrap().applied.is_empty());
}

#[tokio::test]
async fn a_replaced_function_keeps_its_grants() {
    let role = format!("caller_{}", std::process::id());
    let (_database, client, url) = of_a_version_before(&format!(
        "create role {role}; grant execute on function switchyard.claim to {role};
         drop function switchyard.parked_old;
         create function switchyard.parked_old(agent text) returns setof uuid language sql as 'select null::uuid';
         revoke execute on function switchyard.parked_old from public;
         grant execute on function switchyard.parked_old to {role}"
    ))
    .await;
    migrate(&url).await.unwrap();
    let may = format!(
        "select array_agg(p.proname::text order by 1) from pg_proc p
          where p.pronamespace = 'switchyard'::regnamespace and has_function_privilege('{role}', p.oid, 'execute')"
    );
    assert_eq!(client.query_one(&may, &[]).await.unwrap().get::<_, Vec<String>>(0), ["claim", "parked_old"]);
    assert_eq!(open_to_everybody(&client).await, [""; 0]);
    client.batch_execute(&format!("drop owned by {role}; drop role {role}")).await.unwrap();
}

#[tokio::test]
async fn a_trigger_that_no_version_makes_any_more_goes_with_its_function() {
    let (_database, client, url) = of_a_version_before(
        "create function switchyard.former() returns trigger language plpgsql as 'begin return null; end';
         create trigger switchyard_former after insert on events for each row execute function switchyard.former();
         create trigger former after insert on switchyard.agent for each row execute function switchyard.former()",
    )
    .await;
    migrate(&url).await.unwrap();
    let left = "select array_agg(tgname::text order by 1) from pg_trigger where not tgisinternal and tgrelid in ('events'::regclass, 'switchyard.agent'::regclass)";
    let left: Vec<String> = client.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, ["cutover_routing_changed", "switchyard_log"]);
}

#[tokio::test]
async fn what_the_application_has_built_on_a_function_that_goes_is_named_and_nothing_was_changed() {
    let (_database, client, url) = of_a_version_before(
        "create function switchyard.former() returns int language sql as 'select 1';
         revoke execute on function switchyard.former from public;
         create view backlog as select switchyard.former()",
    )
    .await;
    let before = functions(&client).await;
    let refused = migrate(&url).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Config { problem, .. } if problem.contains("backlog")), "{refused}");
    assert_eq!(functions(&client).await, before);
    assert_eq!(open_to_everybody(&client).await, [""; 0]);
    client.batch_execute("drop view backlog").await.unwrap();
    assert_eq!(migrate(&url).await.unwrap().applied, ["functions"]);
}

#[tokio::test]
async fn no_function_is_open_to_everybody_even_where_a_setup_ends_half_way() {
    let database = Database::empty().await;
    let client = database.connect().await;
    client
        .batch_execute(
            "create table events (id uuid primary key, type text, aggregate_type text, aggregate_id uuid, payload jsonb, metadata jsonb,
               version integer, created_at timestamptz default now())",
        )
        .await
        .unwrap();
    client.batch_execute("begin; insert into events (id) values (gen_random_uuid())").await.unwrap();
    let url = database.url().parse().unwrap();
    let hear = |_: Progress<'_>| {};
    let hasty = WaitPolicy {
        lock_timeout: std::time::Duration::from_millis(50),
        at_most: std::time::Duration::ZERO,
        report: &hear,
    };
    let given_up = migrate_with(&url, None, &hasty).await.unwrap_err();
    assert!(given_up.is_conflict(), "{given_up:?}");
    assert!(functions(&client).await.len() > 150, "the functions are there, and the trigger is not");
    assert_eq!(open_to_everybody(&client).await, [""; 0]);
}

/// The application's, an agent's and a report's transactions are under way all the time.
#[tokio::test]
async fn functions_are_replaced_beside_open_transactions_without_a_wait() {
    let (database, writer, url) = of_a_version_before("select 1").await;
    let [agent, reader] = [database.connect().await, database.connect().await];
    writer.batch_execute("begin; insert into events (id, type) values (gen_random_uuid(), 'x')").await.unwrap();
    agent
        .batch_execute("begin; select switchyard.publish('x', 'y', null, '{}'); select count(*) from switchyard.event")
        .await
        .unwrap();
    reader.batch_execute("begin isolation level repeatable read; select count(*) from switchyard.event; select switchyard.last_seq()").await.unwrap();
    let hear = |progress: Progress<'_>| assert!(matches!(progress, Progress::Done(_)), "{progress:?}");
    let Migrated { applied, .. } =
        migrate_with(&url, None, &WaitPolicy { report: &hear, ..WaitPolicy::default() }).await.unwrap();
    assert_eq!(applied, ["functions"]);
    for client in [&writer, &agent, &reader] {
        client.batch_execute("select switchyard.last_seq(); commit").await.unwrap();
    }
}

/// A setup does not look into bodies that are text: this does.
#[tokio::test]
async fn every_body_is_sound() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    let all = "do $$ declare f record; begin
        for f in select p.oid from pg_proc p where p.pronamespace = 'switchyard'::regnamespace loop execute pg_get_functiondef(f.oid); end loop;
        end $$";
    client.batch_execute(all).await.unwrap();
}

#[tokio::test]
async fn a_table_that_was_changed_after_it_was_applied_and_a_newer_database_are_refused_in_words() {
    for (change, words) in [
        ("update switchyard.setup set sha256 = 'x' where name = 'tables/delivery'", "tables/delivery"),
        ("insert into switchyard.setup (name, sha256) values ('tables/future', 'x')", "newer version"),
    ] {
        let database = Database::migrated().await;
        database.connect().await.batch_execute(change).await.unwrap();
        let refused = migrate(&database.url().parse().unwrap()).await.unwrap_err();
        assert!(matches!(&refused, StoreError::Config { problem, .. } if problem.contains(words)), "{refused}");
    }
}
