//! SQL of other roles never runs with the rights of the owner of our functions.

use switchyard_store::{Domain, Replace, WaitPolicy, migrate, set_domain};
use switchyard_tests::database::{self, Database};
use switchyard_tests::eventually;
use tokio_postgres::Client;

const OWNER: &str = "switchyard_test_definers_owner";
const OTHER: &str = "switchyard_test_definers_other";

/// A database of a plain owner, and another role that connects to it.
struct Shared {
    owner_url: String,
    owner: Client,
    other: Client,
    admin: Client,
    database: Database,
}

impl Shared {
    async fn new() -> Self {
        let database = Database::empty().await;
        let admin = database.connect().await;
        for role in [OWNER, OTHER] {
            let create = format!(
                "do $$ begin create role {role} login; exception when duplicate_object or unique_violation then null; end $$"
            );
            admin.batch_execute(&create).await.unwrap();
        }
        let name = database.url().rsplit('/').next().unwrap().to_owned();
        admin
            .batch_execute(&format!("alter database {name} owner to {OWNER}; alter schema public owner to {OWNER}; revoke create on schema public from public"))
            .await
            .unwrap();
        let owner_url = as_role(&database, OWNER);
        let (owner, other) = (database::connect(&owner_url).await, database::connect(&as_role(&database, OTHER)).await);
        Self { owner_url, owner, other, admin, database }
    }

    async fn migrate(&self) -> Result<switchyard_store::Migrated, String> {
        migrate(&self.owner_url.parse().unwrap()).await.map_err(|error| error.to_string())
    }

    async fn number(&self, sql: &str) -> i64 {
        self.admin.query_one(sql, &[]).await.unwrap().get(0)
    }
}

fn as_role(database: &Database, role: &str) -> String {
    let mut url = database.url();
    let (from, to) = (url.find("//").unwrap() + 2, url.find('@').unwrap());
    url.replace_range(from..to, role);
    url
}

const ORDERS: &str = "create table public.orders (id uuid primary key default gen_random_uuid(), name text)";
const SHOP: &str =
    r#"{"name": "shop", "tables": [{"table": "orders", "aggregate_type": "order", "insert": "order.placed"}]}"#;

/// Functions, operators and types that fit our calls better than Postgres's own, if they are found.
const TRAPS: &str = "
    create function public.spy() returns boolean language plpgsql as $$ begin raise exception 'running as %', current_user; end $$;
    create function public.jsonb_build_object(text, text) returns jsonb language sql as $$ select public.spy(); select '{}'::jsonb $$;
    create function public.jsonb_build_array(text, text, text, text) returns jsonb language sql as $$ select public.spy(); select '[]'::jsonb $$;
    create function public.unnest(uuid[]) returns setof uuid language sql as $$ select public.spy(); select null::uuid $$;
    create function public.unnest(text[]) returns setof text language sql as $$ select public.spy(); select null::text $$;
    create function public.unnest(jsonb[]) returns setof jsonb language sql as $$ select public.spy(); select null::jsonb $$;
    create function public.unnest(integer[]) returns setof integer language sql as $$ select public.spy(); select 1 $$;
    create function public.to_jsonb(public.orders) returns jsonb language sql as $$ select public.spy(); select '{}'::jsonb $$;
    create function public.format(text, integer, integer) returns text language sql as $$ select public.spy(); select '' $$;
    create function public.cardinality(uuid[]) returns integer language sql as $$ select public.spy(); select 1 $$;
    create function public.trapped(uuid, uuid) returns boolean language sql as $$ select public.spy(); select true $$;
    create operator public.= (leftarg = uuid, rightarg = uuid, function = public.trapped);
    create function public.joined(bigint, text) returns text language sql as $$ select public.spy(); select '' $$;
    create operator public.|| (leftarg = bigint, rightarg = text, function = public.joined);
    create domain public.jsonb as pg_catalog.jsonb check (public.spy());
    create domain public.uuid as pg_catalog.uuid check (public.spy());";

#[tokio::test]
async fn names_in_the_applications_schemas_never_replace_those_of_our_functions() {
    let shared = Shared::new().await;
    shared.owner.batch_execute(ORDERS).await.unwrap();
    shared.migrate().await.unwrap();
    let url = shared.owner_url.parse().unwrap();
    set_domain(&url, &Domain::parse(SHOP).unwrap(), Replace::Any, &WaitPolicy::default()).await.unwrap();
    shared
        .owner
        .batch_execute(&format!(
            "grant usage on schema switchyard to {OTHER}; grant execute on function switchyard.publish to {OTHER};
             grant insert on public.orders to {OTHER}; grant create on schema public to {OTHER}"
        ))
        .await
        .unwrap();
    shared.other.batch_execute(TRAPS).await.unwrap();
    // What a session's own schema holds is found last.
    shared
        .other
        .batch_execute("create temporary table events (id pg_catalog.uuid); create domain pg_temp.text as pg_catalog.text check (false)")
        .await
        .unwrap();
    shared
        .other
        .batch_execute("select switchyard.publish('thing.made', 'thing', null, '{}', idempotency_key => 'k'); insert into public.orders (name) values ('a')")
        .await
        .unwrap();
    assert_eq!(shared.number("select count(*) from switchyard.event_log").await, 2);
    assert_eq!(shared.number("select count(*) from switchyard.audit where action = 'domain_event_failed'").await, 0);
}

#[tokio::test]
async fn the_applications_triggers_on_events_find_the_applications_names() {
    let shared = Shared::new().await;
    shared
        .owner
        .batch_execute(
            "create table public.events (id uuid primary key, type text, aggregate_type text, aggregate_id uuid, payload jsonb, metadata jsonb,
               version integer, created_at timestamptz default now());
             create table public.seen (id uuid);
             create function public.see() returns trigger language plpgsql as $$ begin insert into seen values (new.id); return null; end $$;
             create trigger see after insert on public.events for each row execute function public.see()",
        )
        .await
        .unwrap();
    shared.migrate().await.unwrap();
    shared
        .owner
        .batch_execute(&format!(
            "grant usage on schema switchyard to {OTHER}; grant execute on function switchyard.publish to {OTHER}"
        ))
        .await
        .unwrap();
    let publish = "create temporary table seen (id uuid); select switchyard.publish('thing.made', 'thing', null, '{}')";
    shared.other.batch_execute(publish).await.unwrap();
    assert_eq!(shared.number("select count(*) from public.seen").await, 1);
}

#[tokio::test]
async fn the_setup_refuses_a_search_path_on_which_others_may_create_and_says_what_mends_it() {
    let shared = Shared::new().await;
    for grantee in ["public", OTHER] {
        shared.owner.batch_execute(&format!("grant create on schema public to {grantee}")).await.unwrap();
        let refused = shared.migrate().await.unwrap_err();
        let mends = format!("revoke create on schema public from {grantee}");
        assert!(refused.contains(&mends), "{refused}");
        assert_eq!(shared.number("select count(*) from pg_namespace where nspname = 'switchyard'").await, 0);
        shared.owner.batch_execute(&mends).await.unwrap();
    }
    shared.migrate().await.unwrap();
    shared.owner.batch_execute(&format!("grant create on schema switchyard to {OTHER}")).await.unwrap();
    let refused = shared.migrate().await.unwrap_err();
    assert!(refused.contains(&format!("revoke create on schema switchyard from {OTHER}")), "{refused}");
}

#[tokio::test]
async fn the_setup_refuses_a_schema_that_another_role_has_made_for_it() {
    let shared = Shared::new().await;
    let name = shared.database.url().rsplit('/').next().unwrap().to_owned();
    shared.owner.batch_execute(&format!("grant create on database {name} to {OTHER}")).await.unwrap();
    shared.other.batch_execute("create schema switchyard; grant all on schema switchyard to public").await.unwrap();
    let refused = shared.migrate().await.unwrap_err();
    assert!(refused.contains(OTHER), "{refused}");
    let superusers = migrate(&shared.database.url().parse().unwrap()).await.unwrap_err().to_string();
    assert!(superusers.contains(&format!("revoke create on schema switchyard from {OTHER}")), "{superusers}");
}

#[tokio::test]
async fn a_setup_that_is_killed_half_way_leaves_no_function_open() {
    let shared = Shared::new().await;
    shared
        .owner
        .batch_execute(
            "create table public.events (id uuid primary key, type text, aggregate_type text, aggregate_id uuid, payload jsonb, metadata jsonb,
               version integer, created_at timestamptz default now())",
        )
        .await
        .unwrap();
    shared.owner.batch_execute("begin; lock table public.events in access exclusive mode").await.unwrap();
    let kill = async {
        eventually("the setup killed while it creates the view", async || {
            let sql = "select count(pg_terminate_backend(a.pid)) from pg_stat_activity a
                where a.datname = current_database() and a.wait_event_type = 'Lock' and a.query like '%switchyard.bind()%'";
            (shared.number(sql).await == 1).then_some(())
        })
        .await;
    };
    let (killed, ()) = tokio::join!(shared.migrate(), kill);
    killed.unwrap_err();
    shared.owner.batch_execute("rollback").await.unwrap();
    assert_eq!(shared.number("select count(*) from pg_class where oid = to_regclass('switchyard.delivery')").await, 1);
    assert_eq!(shared.number(OPEN).await, 0);
    shared.migrate().await.unwrap();
    assert_eq!(shared.number(OPEN).await, 0);
}

const OPEN: &str = "select count(*) from pg_proc p where p.pronamespace = to_regnamespace('switchyard')
    and exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0)";

/// The functions that run with their owner's rights and are granted to no role, and why. All others of them are in `_callers`.
const TRIGGERS: &[(&str, &str)] = &[
    ("log_event", "on the events table: whoever inserts an event has no right in our schema"),
    ("log_change", "on the application's tables, likewise"),
    ("_claimed", "on `claiming`, which fires at the commit of the old system"),
];

/// A body that was parsed when the function was created looks nothing up when it runs. All others have a search path of their own. One of them holds
/// other schemas: the application's triggers run inside it, and its body has qualified names only.
#[tokio::test]
async fn every_function_has_a_pinned_search_path_and_is_nobodys_by_default() {
    let shared = Shared::new().await;
    shared.migrate().await.unwrap();
    let rows = shared
        .admin
        .query(
            "select p.proname::text, p.prosecdef, p.prosqlbody is not null,
                    coalesce((select substr(c, length('search_path=') + 1) from unnest(p.proconfig) c where c like 'search_path=%'), ''), p.prosrc
               from pg_proc p where p.pronamespace = 'switchyard'::regnamespace order by 1",
            &[],
        )
        .await
        .unwrap();
    assert!(rows.len() > 150, "{}", rows.len());
    let mut definers = std::collections::BTreeSet::new();
    for row in &rows {
        let (name, definer, parsed, path): (&str, bool, bool, &str) = (row.get(0), row.get(1), row.get(2), row.get(3));
        if name == "_insert_rows" {
            assert_eq!(path, "pg_catalog, public, pg_temp");
            let body: &str = row.get(4);
            let unqualified = body.match_indices('(').filter(|(at, _)| {
                let before = &body[..*at];
                let name = before.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap();
                let called = !name.is_empty() && !["in", "from", "conflict", "values"].contains(&name);
                called && !before[..before.len() - name.len()].ends_with("pg_catalog.")
            });
            assert_eq!(unqualified.count(), 0, "{body}");
            assert!(!body.contains("||") && !body.contains(" = "), "{body}");
        } else if !(parsed && path.is_empty()) {
            assert_eq!(path, "pg_catalog, pg_temp", "{name}");
        }
        if definer {
            definers.insert(name.to_owned());
        }
    }
    let called = "select f.name from switchyard._callers() c cross join unnest(c.functions) f (name) where not switchyard._runs_as_caller(f.name)";
    let called = shared.admin.query(called, &[]).await.unwrap();
    let triggers = TRIGGERS.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(definers, called.iter().map(|row| row.get(0)).chain(triggers).collect());
    assert_eq!(shared.number(OPEN).await, 0);
}
