//! What stands on the application's table already goes on as before: its triggers, and readers of its changes.

use super::shop::empty;
use std::collections::BTreeSet;
use switchyard_localstack::{
    Places, Port,
    postgres::{Binaries, Options, Postgres},
    progress::quiet,
    python::Venv,
};
use switchyard_store::{DatabaseUrl, Mode, Publication, Since, Store, WaitPolicy, migrate, remove};
use switchyard_tests::database;
use tokio_postgres::Client;

const TABLE: &str = "create table events (id uuid primary key, type text, aggregate_type text, aggregate_id uuid, payload jsonb, metadata jsonb,
    version integer, created_at timestamptz default now())";

/// Triggers as applications have them: one that fills in, one that counts, one that writes another event, one for the statement.
const TRIGGERS: &str = "
    create table seen (statements int not null default 0, rows int not null default 0); insert into seen default values;
    create function stamp() returns trigger language plpgsql as $$ begin
      new.metadata := coalesce(new.metadata, '{}') || '{\"project_id\": \"stamped\"}'; return new; end $$;
    create function tally() returns trigger language plpgsql as $$ begin update seen set rows = rows + 1; return null; end $$;
    create function statement() returns trigger language plpgsql as $$ begin update seen set statements = statements + 1; return null; end $$;
    create function echo() returns trigger language plpgsql as $$ begin
      insert into events (id, type) values (gen_random_uuid(), 'echo.' || new.type); return null; end $$;
    create trigger a_stamp before insert on events for each row execute function stamp();
    create trigger a_tally after insert on events for each row execute function tally();
    create trigger z_echo after insert on events for each row when (new.type not like 'echo.%') execute function echo();
    create trigger z_statement after insert on events for each statement execute function statement();";

async fn triggers(client: &Client) -> Vec<String> {
    let sql = "select pg_get_triggerdef(oid) || ' ' || tgenabled::text from pg_trigger
        where tgrelid = 'events'::regclass and not tgisinternal and tgname not like 'switchyard%' order by tgname";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn triggers_that_are_there_already_do_what_they_did_and_ours_sees_what_they_have_made() {
    let (database, client) = empty(&format!("{TABLE};{TRIGGERS}")).await;
    let before = triggers(&client).await;
    migrate(&database.url().parse().unwrap()).await.unwrap();
    client
        .batch_execute("insert into events (id, type) values (gen_random_uuid(), 'x'), (gen_random_uuid(), 'y')")
        .await
        .unwrap();
    let store = database.store();
    store.publish(&Publication::new("z", "thing", "00000000-0000-0000-0000-000000000007", "{}")).await.unwrap();
    let row = client.query_one("select rows, statements from seen", &[]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (6, 5), "three events and an echo of each");
    let logged = "select string_agg(type || ':' || project_id, ' ' order by type) from switchyard.event_log";
    let logged: String = client.query_one(logged, &[]).await.unwrap().get(0);
    assert_eq!(logged, "echo.x:stamped echo.y:stamped echo.z:stamped x:stamped y:stamped z:stamped");
    assert_eq!(triggers(&client).await, before);
}

#[tokio::test]
async fn names_in_the_applications_triggers_mean_the_applications_tables_for_every_publisher() {
    let (database, client) = empty(&format!("{TABLE};{TRIGGERS}")).await;
    let elsewhere =
        "create schema tools; create function tools.word() returns text language sql as $$ select 'found' $$;
        create or replace function stamp() returns trigger language plpgsql as $$ begin
          new.metadata := jsonb_build_object('project_id', word()); return new; end $$";
    client.batch_execute(elsewhere).await.unwrap();
    let name: String = client.query_one("select current_database()", &[]).await.unwrap().get(0);
    client.batch_execute(&format!("alter database {name} set search_path = public, tools")).await.unwrap();
    migrate(&database.url().parse().unwrap()).await.unwrap();
    // What a publisher puts in their way is not found.
    let publisher = database.connect().await;
    publisher
        .batch_execute(
            "create temp table seen (statements int, rows int); create schema decoy;
             create function decoy.word() returns text language sql as $$ select 'decoy' $$; set search_path = decoy, public;
             select switchyard.publish('x', 'thing', null, '{}')",
        )
        .await
        .unwrap();
    let logged = client.query_one(
        "select string_agg(distinct project_id, ' '), (select rows from public.seen) from switchyard.event_log",
        &[],
    );
    let logged = logged.await.unwrap();
    assert_eq!((logged.get::<_, &str>(0), logged.get::<_, i32>(1)), ("found", 2));
}

/// A server that keeps what logical decoding needs, as a hosted one does.
struct Decoding {
    server: Postgres,
    _scratch: switchyard_localstack::places::Scratch,
}

impl Decoding {
    fn start() -> Self {
        let places = Places::of_this_checkout();
        let binaries = Binaries::find(&Venv::ensure(&places, &mut quiet).unwrap()).unwrap();
        let scratch = places.scratch("decoding").unwrap();
        let (data, log) = (scratch.dir().join("data"), scratch.dir().join("log"));
        let options = Options { data, log, port: Port::Free, durable: true, max_connections: 20, settings: &[] };
        drop(Postgres::start(&binaries, &options).unwrap());
        let settings = options.data.join("postgresql.auto.conf");
        std::fs::write(&settings, "wal_level = logical\nfsync = off\n").unwrap();
        Self { server: Postgres::start(&binaries, &options).unwrap(), _scratch: scratch }
    }

    fn url(&self) -> DatabaseUrl {
        self.server.admin_url().parse().unwrap()
    }
}

/// What a follower of a publication is sent: the tables, and how many rows were inserted. Reads the messages of Postgres's logical streaming
/// replication protocol, version 1: `R` announces a relation (its number, schema and name), `I` is an insert, `B` and `C` frame a transaction.
async fn followed(client: &Client) -> (BTreeSet<String>, usize) {
    let sql = "select data from pg_logical_slot_get_binary_changes('realtime', null, null, 'proto_version', '1', 'publication_names', 'supabase_realtime')";
    let (mut tables, mut inserts) = (BTreeSet::new(), 0);
    for row in client.query(sql, &[]).await.unwrap() {
        let message: &[u8] = row.get(0);
        match message[0] {
            b'R' => {
                let mut words =
                    message[5..].split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
                tables.insert(format!("{}.{}", words.next().unwrap(), words.next().unwrap()));
            }
            b'I' => inserts += 1,
            _ => {}
        }
    }
    (tables, inserts)
}

/// How the table is published: by which publications, and by what its rows are known.
async fn published(client: &Client) -> String {
    let sql = "select c.relreplident::text || coalesce((select string_agg(p.pubname || ' ' || p.schemaname || '.' || p.tablename, ', ' order by 1)
        from pg_publication_tables p where p.pubname = 'supabase_realtime'), '') from pg_class c where c.oid = 'events'::regclass";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn logical_decoding_of_the_table_shows_none_of_our_rows() {
    let decoding = tokio::task::spawn_blocking(Decoding::start).await.unwrap();
    let client = database::connect(&decoding.server.admin_url()).await;
    client.batch_execute(&format!("{TABLE}; create publication supabase_realtime for table events")).await.unwrap();
    client.query("select pg_create_logical_replication_slot('realtime', 'pgoutput')", &[]).await.unwrap();
    let before = published(&client).await;

    migrate(&decoding.url()).await.unwrap();
    let store = Store::open(&decoding.url(), 2).unwrap();
    let agent = crate::store::world::spec(&["thing.made"]);
    store.register(&agent, Mode::Full, Since::Now).await.unwrap();
    let insert = "insert into events (id, type) values (gen_random_uuid(), 'thing.made')";
    client.batch_execute(insert).await.unwrap();
    store
        .publish(&Publication::new("thing.made", "thing", "00000000-0000-0000-0000-000000000007", "{}"))
        .await
        .unwrap();
    store.tick().await.unwrap();
    store.published(&[1]).await.unwrap();
    assert_eq!(followed(&client).await, (BTreeSet::from(["public.events".to_owned()]), 2));
    assert_eq!(published(&client).await, before);

    remove(&decoding.url(), &WaitPolicy::default()).await.unwrap().unwrap();
    client.batch_execute(insert).await.unwrap();
    assert_eq!(followed(&client).await.1, 1, "and when we have gone");
    assert_eq!(published(&client).await, before);
}

#[tokio::test]
async fn a_publication_for_all_tables_does_not_block_ours() {
    let (database, client) = empty(&format!("{TABLE}; create publication everything for all tables")).await;
    migrate(&database.url().parse().unwrap()).await.unwrap();
    // Without a key a row cannot be updated or deleted there: only what we never change may have none.
    let keyless = "select string_agg(c.relname, ' ' order by 1) from pg_class c
        where c.relnamespace = 'switchyard'::regnamespace and c.relkind in ('r', 'p') and c.relreplident = 'd'
          and not exists (select 1 from pg_index i where i.indrelid = c.oid and i.indisprimary)";
    let keyless: Option<String> = client.query_one(keyless, &[]).await.unwrap().get(0);
    assert_eq!(keyless.as_deref(), Some("retired"), "it is only added to");
    client.batch_execute("insert into events (id, type) values (gen_random_uuid(), 'x')").await.unwrap();
    let store = database.store();
    store.tick().await.unwrap();
    assert_eq!(store.published(&[1]).await.unwrap(), 1);
}
