//! A hosted database: its owner is no superuser, row-level security is on, the application is another role, and the locale is ICU's
//! where the server has it.

use switchyard_store::{Ask, Mode, Overdue, Since, Store, StoreError, Type, Verdict, migrate};
use switchyard_tests::database::{self, Database};
use tokio_postgres::Client;
use uuid::Uuid;

use super::world::{AGENT, spec};

/// Roles belong to the cluster and are shared by these tests: the database's owner and the application.
const OWNER: &str = "switchyard_test_owner";
const APPLICATION: &str = "switchyard_test_application";

struct Hosted {
    store: Store,
    owner: Client,
    application: Client,
    database: Database,
}

impl Hosted {
    async fn new() -> Self {
        let database = Database::empty().await;
        let name = database.url().rsplit('/').next().unwrap().to_owned();
        let admin = database::connect(&database::admin_url()).await;
        for role in [OWNER, APPLICATION] {
            let create = format!(
                "do $$ begin create role {role} login; exception when duplicate_object or unique_violation then null; end $$"
            );
            admin.batch_execute(&create).await.unwrap();
        }
        admin.batch_execute(&format!("drop database {name}")).await.unwrap();
        let create = format!("create database {name} owner {OWNER} template template0");
        if admin.batch_execute(&format!("{create} locale_provider icu icu_locale 'en-US'")).await.is_err() {
            // A server that was built without it.
            admin.batch_execute(&create).await.unwrap();
        }
        let owners = address(&database, OWNER).parse().unwrap();
        migrate(&owners).await.unwrap();
        let store = Store::open(&owners, 4).unwrap();
        store.register(&spec(&["thing.made"]), Mode::Full, Since::Now).await.unwrap();
        let owner = database::connect(&address(&database, OWNER)).await;
        owner
            .batch_execute(&format!(
                "grant insert on events to {APPLICATION};
                 create policy application_inserts on events for insert to {APPLICATION} with check (true)"
            ))
            .await
            .unwrap();
        let application = database::connect(&address(&database, APPLICATION)).await;
        Self { store, owner, application, database }
    }

    async fn insert(&self, metadata: &str) -> Uuid {
        let id = Uuid::new_v4();
        let sql = format!("insert into events (id, type, metadata) values ('{id}', 'thing.made', '{metadata}')");
        self.application.batch_execute(&sql).await.unwrap();
        id
    }

    async fn number(&self, sql: &str) -> i64 {
        self.owner.query_one(sql, &[]).await.unwrap().get(0)
    }
}

fn address(database: &Database, role: &str) -> String {
    let mut url = database.url();
    let (from, to) = (url.find("//").unwrap() + 2, url.find('@').unwrap());
    url.replace_range(from..to, role);
    url
}

fn code(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("", |c| c.code())
}

#[tokio::test]
async fn an_event_goes_its_whole_way_for_a_plain_owner() {
    let hosted = Hosted::new().await;
    let event = hosted.insert("{}").await;
    hosted.store.tick().await.unwrap();
    assert_eq!(hosted.number("select count(*) from switchyard.outbox").await, 1);
    let mut tx = hosted.store.begin().await.unwrap();
    assert_eq!(tx.claim(AGENT, &[Ask::live(event)]).await.unwrap()[0].verdict, Verdict::Take);
    tx.commit().await.unwrap();
    hosted.store.sweep(AGENT).await.unwrap();
    assert_eq!(hosted.store.ledger(AGENT).await.unwrap().done, 1);
}

#[tokio::test]
async fn a_rebind_by_another_role_does_not_affect_inserts() {
    let hosted = Hosted::new().await;
    let superuser = hosted.database.connect().await;
    let changed = "begin; select switchyard.unbind(); alter table events alter column aggregate_id type text; select switchyard.bind(); commit";
    superuser.batch_execute(changed).await.unwrap();
    hosted.insert("{}").await;
    hosted.store.tick().await.unwrap();
    assert_eq!(hosted.number("select count(*) from switchyard.outbox").await, 1);
}

#[tokio::test]
async fn digits_of_another_alphabet_never_fail_the_insert() {
    let hosted = Hosted::new().await;
    hosted.insert(r#"{"max_attempts": "٣", "deliver_at": "٢٠٢٦-01-01T00:00:00Z"}"#).await;
    assert_eq!(
        hosted.number("select count(*) from switchyard.event_log where max_attempts is null and due_at is null").await,
        1
    );
}

#[tokio::test]
async fn an_owner_from_whom_row_level_security_hides_events_is_refused() {
    let hosted = Hosted::new().await;
    for _ in 0..5 {
        hosted.insert("{}").await;
    }
    hosted.store.tick().await.unwrap();
    assert_eq!(hosted.number("select count(*) from switchyard.outbox").await, 5, "the owner sees them all");
    hosted.owner.batch_execute("alter table events force row level security").await.unwrap();
    assert!(matches!(hosted.store.tick().await, Err(StoreError::Config { .. })), "unless security is forced on it");
    assert_eq!(hosted.number("select count(*) from switchyard.outbox").await, 5);
    // Neither may what is due be taken for deleted.
    hosted.owner.batch_execute("delete from switchyard.outbox").await.unwrap();
    hosted.store.set_grace(AGENT, 0).await.unwrap();
    hosted.store.sweep(AGENT).await.unwrap();
    assert!(matches!(hosted.store.due(AGENT, 10, Overdue::Now).await, Err(StoreError::Config { .. })));
    assert_eq!(hosted.number("select count(*) from switchyard.delivery where state <> 'a'").await, 0);
}

#[tokio::test]
async fn an_application_publishes_with_the_documented_grants_and_can_do_nothing_else() {
    let hosted = Hosted::new().await;
    let publish = "select switchyard.publish('thing.made', 'thing', null, '{}')";
    assert_eq!(code(&hosted.application.batch_execute(publish).await.unwrap_err()), "42501");
    let grants = format!(
        "grant usage on schema switchyard to {APPLICATION}; grant execute on function switchyard.publish to {APPLICATION}"
    );
    hosted.owner.batch_execute(&grants).await.unwrap();
    hosted.application.batch_execute(publish).await.unwrap();
    assert_eq!(hosted.number("select count(*) from switchyard.outbox").await, 1);
    let event = hosted.insert("{}").await;
    for call in [
        format!("select switchyard.park('{AGENT}', '{event}', 'I say so')"),
        format!("select switchyard.fail('{AGENT}', '{event}', 'I say so')"),
        format!("select switchyard.todo_old('{AGENT}')"),
        format!("begin; select switchyard.claim('{AGENT}', '{event}')"),
    ] {
        assert_eq!(code(&hosted.application.batch_execute(&call).await.unwrap_err()), "42501", "{call}");
    }
}

#[tokio::test]
async fn an_old_system_works_with_the_documented_grants() {
    let hosted = Hosted::new().await;
    hosted.store.set_routing(AGENT, Mode::Off, "ada").await.unwrap();
    let grants = format!(
        "grant usage on schema switchyard to {APPLICATION};
         grant execute on function switchyard.claim, switchyard.fail, switchyard.park, switchyard.todo_old to {APPLICATION}"
    );
    hosted.owner.batch_execute(&grants).await.unwrap();
    let [event, other] = [hosted.insert("{}").await, hosted.insert("{}").await];
    hosted.application.batch_execute(&format!("select switchyard.park('{AGENT}', '{other}', 'hm')")).await.unwrap();
    hosted.application.batch_execute("begin").await.unwrap();
    let rows = hosted
        .application
        .query_typed("select switchyard.claim($1, $2)", &[(&AGENT, Type::TEXT), (&event, Type::UUID)])
        .await
        .unwrap();
    assert_eq!(rows[0].get::<_, &str>(0), "take");
    hosted.application.batch_execute("commit").await.unwrap();
    assert_eq!(
        hosted.number("select count(*) from switchyard.delivery where owner = 'o' and state in ('d', 'p')").await,
        2
    );
}

#[tokio::test]
async fn no_function_of_ours_is_everybodys() {
    let hosted = Hosted::new().await;
    let everybodys = "select count(*) from pg_proc p where p.pronamespace = 'switchyard'::regnamespace
        and (p.proacl is null or exists (select 1 from aclexplode(p.proacl) a where a.grantee = 0))";
    assert_eq!(hosted.number(everybodys).await, 0);
}

#[tokio::test]
async fn application_code_never_runs_with_the_owner_s_rights() {
    let hosted = Hosted::new().await;
    // A type of the name that our functions use, in the schema that is searched first unless a function says otherwise.
    hosted
        .application
        .batch_execute(
            "create function pg_temp.spy(t pg_catalog.text) returns boolean language plpgsql as $$
               begin raise exception 'running as %', current_user; end $$;
             create domain pg_temp.text as pg_catalog.text check (pg_temp.spy(value));
             create domain pg_temp.jsonb as pg_catalog.jsonb check (pg_temp.spy('x'))",
        )
        .await
        .unwrap();
    let insert = "insert into events (id, type, aggregate_id, metadata) values (gen_random_uuid(), 'thing.made', gen_random_uuid(), '{}')";
    hosted.application.batch_execute(insert).await.unwrap();
    let unprotected = "select count(*) from pg_proc p where p.pronamespace = 'switchyard'::regnamespace and p.prosecdef
        and not 'search_path=pg_catalog, pg_temp' = any (coalesce(p.proconfig, '{}'))";
    assert_eq!(hosted.number(unprotected).await, 0);
}
