//! What each role may do, with a login of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use switchyard_store::{APPLICATION, Mode, READER, RUNTIME, Since, Store, migrate};
use switchyard_tests::database::{self, Database};
use switchyard_tests::versions::{self, Server};
use tokio_postgres::Client;
use uuid::Uuid;

use super::world::{AGENT, spec};

/// Calls of the store that no Lambda function makes: `cargo dev` makes them as the owner.
const OWNERS: &[&str] = &["end_leases", "publish_again"];

#[tokio::test]
async fn the_runtime_role_may_call_what_the_store_calls_and_nothing_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("shared/store/src");
    let mut called = BTreeSet::new();
    for folder in ["ledger", "moving_over", "operating", "outbox"] {
        sources(&root.join(folder), &mut called);
    }
    sources(&root.join("tx.rs"), &mut called);
    for name in OWNERS {
        assert!(called.remove(*name), "{name} is called no more");
    }
    // `logged_between` calls it, as a part of the caller's statement.
    called.insert("_seq_logged_from".to_owned());
    let database = Database::migrated().await;
    let client = database.connect().await;
    let granted =
        "select f.name from switchyard._callers() c cross join unnest(c.functions) f (name) where c.role_name = $1";
    let granted = client.query(granted, &[&RUNTIME]).await.unwrap();
    assert_eq!(granted.iter().map(|row| row.get::<_, String>(0)).collect::<BTreeSet<_>>(), called);
}

/// Adds the functions that the Rust code below this path calls.
fn sources(path: &Path, called: &mut BTreeSet<String>) {
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| sources(&entry.unwrap().path(), called));
        return;
    }
    let text = std::fs::read_to_string(path).unwrap();
    let code = text
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .filter(|line| !line.trim_start().starts_with("//"));
    for line in code {
        called.extend(line.split("switchyard.").skip(1).filter_map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
            rest[end..].starts_with('(').then(|| rest[..end].to_owned())
        }));
    }
}

#[tokio::test]
async fn a_role_has_the_functions_of_its_list_and_no_right_on_a_table() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    for role in [RUNTIME, APPLICATION, READER] {
        let differs = "select coalesce(string_agg(p.oid::regprocedure::text, ', '), '') from pg_proc p join switchyard._callers() c on c.role_name = $1
            where p.pronamespace = 'switchyard'::regnamespace
              and has_function_privilege(c.role_name::text, p.oid, 'execute') <> (p.proname = any (c.functions))";
        assert_eq!(client.query_one(differs, &[&role]).await.unwrap().get::<_, String>(0), "", "{role}");
        let unknown = "select count(*) from switchyard._callers() c cross join unnest(c.functions) f (name) where c.role_name = $1
            and not exists (select from pg_proc p where p.pronamespace = 'switchyard'::regnamespace and p.proname = f.name)";
        assert_eq!(client.query_one(unknown, &[&role]).await.unwrap().get::<_, i64>(0), 0, "{role}");
        let tables = "select coalesce(string_agg(c.relname, ', ' order by c.relname), '') from pg_class c
            where c.relnamespace = 'switchyard'::regnamespace and c.relkind in ('r', 'p', 'v')
              and has_table_privilege($1::text, c.oid, 'select, insert, update, delete, truncate, references, trigger')";
        let expected = if role == RUNTIME { "event, event_log" } else { "" };
        assert_eq!(client.query_one(tables, &[&role]).await.unwrap().get::<_, String>(0), expected, "{role}");
    }
}

/// A database with an agent, and an address for a login with this role and no other.
async fn with_login(database: &Database, role: &str) -> String {
    let login = format!("{role}_test_login");
    let admin = database.connect().await;
    let create = format!(
        "do $$ begin create role {login} login in role {role}; exception when duplicate_object or unique_violation then null; end $$"
    );
    admin.batch_execute(&create).await.unwrap();
    as_role(&database.url(), &login)
}

fn as_role(url: &str, role: &str) -> String {
    let mut url = url.to_owned();
    let (from, to) = (url.find("//").unwrap() + 2, url.find('@').unwrap());
    url.replace_range(from..to, role);
    url
}

async fn code(client: &Client, sql: &str) -> String {
    match client.batch_execute(sql).await {
        Ok(()) => "allowed".to_owned(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}

const FORBIDDEN: &str = "42501";

#[tokio::test]
async fn an_application_inserts_publishes_and_claims_and_reads_nothing() {
    let database = Database::migrated().await;
    let owner = database.store();
    owner.register(&spec(&["thing.made"]), Mode::Off, Since::Now).await.unwrap();
    let client = database::connect(&with_login(&database, APPLICATION).await).await;
    let event = Uuid::new_v4();
    for sql in [
        format!("insert into events (id, type, payload) values ('{event}', 'thing.made', '{{}}')"),
        "select switchyard.publish('thing.made', 'thing', null, '{}')".to_owned(),
        format!("begin; select switchyard.todo_old('{AGENT}')"),
        format!("select switchyard.claim('{AGENT}', '{event}'); select 1"),
        "commit".to_owned(),
    ] {
        assert_eq!(code(&client, &sql).await, "allowed", "{sql}");
    }
    for sql in [
        "select * from events".to_owned(),
        "select * from switchyard.event".to_owned(),
        "select * from switchyard.delivery".to_owned(),
        "delete from switchyard.outbox".to_owned(),
        format!("select * from switchyard.preview('{AGENT}', '{{}}', '{{}}')"),
        "select switchyard.append('{}', '{}', '{}', '{}', '{}', '{}', '{}')".to_owned(),
        "select switchyard._insert_events('{}', '{}', '{}', '{}', '{}', '{}', '{}')".to_owned(),
        "select switchyard.bind()".to_owned(),
        "create function switchyard.f() returns int language sql return 1".to_owned(),
    ] {
        assert_eq!(code(&client, &sql).await, FORBIDDEN, "{sql}");
    }
}

#[tokio::test]
async fn a_reader_reads_the_status_and_changes_nothing() {
    let database = Database::migrated().await;
    database.store().register(&spec(&["thing.made"]), Mode::Full, Since::Now).await.unwrap();
    let url = with_login(&database, READER).await;
    let store = Store::open(&url.parse().unwrap(), 1).unwrap();
    assert_eq!(store.agents().await.unwrap(), [AGENT]);
    assert_eq!(store.ledger(AGENT).await.unwrap().parked, 0);
    store.stream(0, 10).await.unwrap();
    let client = database::connect(&url).await;
    for sql in [
        format!("select switchyard.set_routing('{AGENT}', 'off', 0, false, false, 'me')"),
        "select * from switchyard.payloads('{}', 1)".to_owned(),
        "select switchyard.publish('thing.made', 'thing', null, '{}')".to_owned(),
        "select * from switchyard.tick()".to_owned(),
        "select * from switchyard.event".to_owned(),
    ] {
        assert_eq!(code(&client, &sql).await, FORBIDDEN, "{sql}");
    }
}

/// A server of its own, for roles that the shared one must not have: an owner without special rights, and the roles of Supabase's users.
struct Cluster {
    _server: Server,
    admin: Client,
    owner: Client,
    owner_url: String,
    url: String,
}

impl Cluster {
    async fn new(owner_may: &str) -> Self {
        let server = Server::start(&versions::all().pop().expect("a Postgres"), &[]);
        let roles = format!(
            "create role plain login {owner_may}; create role anon; create role authenticated; create role service_role login bypassrls"
        );
        let postgres = database::connect(&server.admin_url()).await;
        postgres.batch_execute(&roles).await.unwrap();
        postgres.batch_execute("create database app owner plain").await.unwrap();
        let url = format!("{}/app", server.admin_url().rsplit_once('/').unwrap().0);
        let owner_url = as_role(&url, "plain");
        let (admin, owner) = (database::connect(&url).await, database::connect(&owner_url).await);
        owner
            .batch_execute("alter default privileges in schema public grant all on tables to anon, authenticated")
            .await
            .unwrap();
        Self { _server: server, admin, owner, owner_url, url }
    }

    async fn text(&self, sql: &str) -> String {
        self.admin.query_one(&format!("select ({sql})::text"), &[]).await.unwrap().get(0)
    }
}

const ACL: &str =
    "select coalesce(c.relacl::text, '') || c.relrowsecurity from pg_class c where c.oid = 'public.events'::regclass";

#[tokio::test]
async fn a_setup_that_may_create_no_role_says_the_statements_and_grants_when_they_are_done() {
    let cluster = Cluster::new("").await;
    let url = cluster.owner_url.parse().unwrap();
    let statements = migrate(&url).await.unwrap().missing_roles;
    assert_eq!(statements, [RUNTIME, APPLICATION, READER].map(|role| format!("create role {role} nologin")));
    cluster.admin.batch_execute(&statements.join(";")).await.unwrap();
    assert_eq!(migrate(&url).await.unwrap().missing_roles, Vec::<String>::new());
    assert_eq!(
        cluster.text("select has_function_privilege('switchyard_runtime', 'switchyard.tick()', 'execute')").await,
        "true"
    );
    assert_eq!(
        cluster.text("select has_table_privilege('switchyard_application', 'public.events', 'insert')").await,
        "true"
    );
}

#[tokio::test]
async fn an_events_table_that_the_setup_creates_is_closed_to_users() {
    let cluster = Cluster::new("createrole").await;
    let migrated = migrate(&cluster.owner_url.parse().unwrap()).await.unwrap();
    assert_eq!((migrated.missing_roles, migrated.open), (vec![], vec![]));
    for right in ["select", "insert", "update", "delete", "trigger"] {
        for role in ["anon", "authenticated"] {
            let may = format!("select has_table_privilege('{role}', 'public.events', '{right}')");
            assert_eq!(cluster.text(&may).await, "false", "{role} {right}");
        }
    }
    assert_eq!(cluster.text("select relrowsecurity from pg_class where oid = 'public.events'::regclass").await, "true");
}

#[tokio::test]
async fn what_is_open_on_a_table_of_the_application_is_named_and_stays() {
    let cluster = Cluster::new("createrole").await;
    let table = "create table public.events (id uuid primary key, type text, aggregate_type text, aggregate_id uuid, payload jsonb, metadata jsonb,
        version integer, created_at timestamptz default now()); grant select on public.events to public";
    cluster.owner.batch_execute(table).await.unwrap();
    let before = cluster.text(ACL).await;
    let open = migrate(&cluster.owner_url.parse().unwrap()).await.unwrap().open;
    let roles: Vec<&str> = open.iter().map(|line| line.split_once(' ').unwrap().0).collect();
    assert_eq!(roles, ["anon", "authenticated", "public"], "{open:?}");
    assert_eq!(open[2], "public may select on public.events, and row-level security is off");
    assert_eq!(cluster.text(ACL).await, before);
}

#[tokio::test]
async fn the_sql_of_the_page_on_supabase_does_what_it_says() {
    let cluster = Cluster::new("createrole bypassrls").await;
    cluster
        .owner
        .batch_execute(
            "create table public.memberships (project_id uuid, user_id uuid); grant select on public.memberships to authenticated;
             create table public.ratings (post_id uuid, rated_at timestamptz);
             create schema auth; grant usage on schema auth to authenticated;
             create function auth.uid() returns uuid language sql stable as $$ select nullif(current_setting('request.jwt.claims', true)::json ->> 'sub', '')::uuid $$",
        )
        .await
        .unwrap();
    let url = cluster.owner_url.parse().unwrap();
    migrate(&url).await.unwrap();
    let mut agent = spec(&["feedback.created"]);
    agent.name = "sentiment".to_owned();
    Store::open(&url, 1).unwrap().register(&agent, Mode::Off, Since::Now).await.unwrap();
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/supabase.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks: Vec<&str> = page.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        cluster.owner.batch_execute(block).await.unwrap();
    }

    let server = database::connect(&as_role(&cluster.url, "my_server")).await;
    let [user, ours, theirs] = [1, 2, 3].map(Uuid::from_u128);
    for project in [ours, theirs] {
        let publish =
            format!("select switchyard.publish('feedback.created', 'post', null, '{{}}', project_id => '{project}')");
        assert_eq!(code(&server, &publish).await, "allowed");
    }
    assert_eq!(code(&server, "select * from public.events").await, FORBIDDEN);
    let join = format!("insert into public.memberships values ('{ours}', '{user}')");
    cluster.owner.batch_execute(&join).await.unwrap();
    let sign_in =
        format!("set role authenticated; select set_config('request.jwt.claims', '{{\"sub\": \"{user}\"}}', false)");
    cluster.admin.batch_execute(&sign_in).await.unwrap();
    let seen = cluster.text("select string_agg(metadata ->> 'project_id', ' ') from public.events").await;
    assert_eq!(seen, ours.to_string());
    assert_eq!(code(&cluster.admin, "select public.rate_post(null, null)").await, FORBIDDEN);
    assert_eq!(code(&cluster.admin, "set role anon; select * from public.events").await, FORBIDDEN);
    cluster.admin.batch_execute("reset role").await.unwrap();

    let event = cluster.text("select event_id from switchyard.event_log order by seq limit 1").await;
    let api = database::connect(&as_role(&cluster.url, "service_role")).await;
    api.batch_execute("select set_config('request.method', 'POST', false)").await.unwrap();
    let answer = api.query_one(&format!("select public.rate_post('{event}', null)"), &[]).await.unwrap();
    assert_eq!(answer.get::<_, &str>(0), "take");
    assert_eq!(cluster.text("select count(*) from public.ratings").await, "1");
    let functions = Store::open(&as_role(&cluster.url, "my_functions").parse().unwrap(), 1).unwrap();
    functions.tick().await.unwrap();
}
