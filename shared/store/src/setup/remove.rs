//! Removing Switchyard from a database.
//!
//! The application's tables stay as they are, also the events table if the setup created it, because it holds the events. The ledger is removed.

use tokio_postgres::Client;

use crate::row::{get, only};
use crate::setup::catalogue;
use crate::setup::direct::Session;
use crate::setup::wait_policy::{Progress, WaitPolicy};
use crate::{DatabaseUrl, StoreError};

const OP: &str = "remove";

/// Our triggers on the application's tables. The log's comes last, so that what the others append is logged until then.
const TRIGGERS: &str = "select format('trigger %I on %I.%I', t.tgname, n.nspname, c.relname), format('drop trigger %I on %I.%I', t.tgname, n.nspname, c.relname)
    from pg_trigger t
    join pg_proc p on p.oid = t.tgfoid and p.pronamespace = to_regnamespace('switchyard')
    join pg_class c on c.oid = t.tgrelid
    join pg_namespace n on n.oid = c.relnamespace and n.nspname <> 'switchyard'
   where not t.tgisinternal and t.tgparentid = 0
   order by p.proname = 'log_event', 1";

/// The rights and policies of our roles on the application's tables. The roles stay, since they belong to the server.
const RIGHTS: &str = "select format('rights of %I on %I.%I', r.rolname, n.nspname, c.relname), format('revoke all on %I.%I from %I', n.nspname, c.relname, r.rolname)
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace and n.nspname <> 'switchyard'
    cross join lateral (select distinct a.grantee from aclexplode(c.relacl) a) a
    join pg_roles r on r.oid = a.grantee and r.rolname in ('switchyard_runtime', 'switchyard_application', 'switchyard_reader')
   where c.relkind in ('r', 'p') and pg_has_role(c.relowner, 'usage')
   union all
   select format('policy %I on %I.%I', p.polname, n.nspname, c.relname), format('drop policy %I on %I.%I', p.polname, n.nspname, c.relname)
    from pg_policy p
    join pg_class c on c.oid = p.polrelid
    join pg_namespace n on n.oid = c.relnamespace
   where p.polname in ('switchyard_runtime', 'switchyard_application') and pg_has_role(c.relowner, 'usage')
   order by 1";

/// The index that a backfill of a large table needed.
const INDEX: &str = "select format('index %I.%I', n.nspname, i.relname), format('drop index concurrently if exists %I.%I', n.nspname, i.relname)
    from switchyard.mapping m
    join pg_namespace n on n.nspname = m.schema_name
    join pg_class c on c.relnamespace = n.oid and c.relname = m.table_name
    join pg_index x on x.indrelid = c.oid
    join pg_class i on i.oid = x.indexrelid and i.relname = 'switchyard_history'";

/// The application's objects that would be dropped too: a view on our tables, a trigger on one, a column's default that calls a function of ours.
/// What a function's body calls is unknown, because the body is text.
const DEPENDENT_OBJECTS: &str = "select distinct coalesce(v.name, i.type || ' ' || i.identity)
    from (select 'pg_class'::regclass, c.oid from pg_class c where c.relnamespace = to_regnamespace('switchyard')
          union all select 'pg_proc'::regclass, p.oid from pg_proc p where p.pronamespace = to_regnamespace('switchyard')
          union all select 'pg_type'::regclass, t.oid from pg_type t where t.typnamespace = to_regnamespace('switchyard')) ours (class, oid)
    join pg_depend d on d.refclassid = ours.class and d.refobjid = ours.oid and d.deptype in ('n', 'a')
    cross join lateral pg_identify_object(d.classid, d.objid, 0) i
    cross join lateral pg_identify_object_as_address(d.classid, d.objid, 0) a
    left join lateral (
      -- What a view depends on, its rule depends on.
      select format('%s %I.%I', case c.relkind when 'm' then 'materialized view' when 'v' then 'view' else 'rule of' end, n.nspname, c.relname) as name
        from pg_rewrite r join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace
       where d.classid = 'pg_rewrite'::regclass and r.oid = d.objid) v on true
   where case i.type
         when 'trigger' then exists (select 1 from pg_trigger t join pg_proc p on p.oid = t.tgfoid
                                      where t.oid = d.objid and not t.tgisinternal and p.pronamespace <> to_regnamespace('switchyard'))
         else coalesce(i.schema, a.object_names[1]) <> 'switchyard' end
   order by 1";

/// What Switchyard has in a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// Objects on the application's tables, such as `trigger switchyard_log on public.events`.
    pub on_the_applications_tables: Vec<String>,
    /// How many agents are registered.
    pub agents: i64,
    /// How many events the event log has.
    pub logged: i64,
    /// How many of them are not published. No agent receives those.
    pub unpublished: i64,
    /// How many deliveries are unfinished or parked.
    pub unfinished: i64,
    /// The application's objects that depend on ours, such as `view public.backlog`. As long as there are any, nothing is removed.
    pub in_the_way: Vec<String>,
}

/// Returns what a removal would drop; `None` if nothing is installed. Changes nothing.
///
/// Fails as [`remove`].
pub async fn installed(url: &DatabaseUrl) -> Result<Option<Installed>, StoreError> {
    let session = Session::open(url, OP).await?;
    let found = look(&session.client).await;
    session.close(found).await
}

/// Removes Switchyard: the triggers and the index on the application's tables, then the schema `switchyard` with the ledger. Rows and columns of the
/// application's tables stay. Returns what there was; `None` if there was nothing. If it stops half way, repeat it: what is dropped stays dropped.
///
/// Needs a direct connection, and the ownership of those tables and the schema. Dropping a trigger locks out the table's readers and writers for
/// milliseconds; it waits for transactions that hold the table, as `wait_policy` says.
///
/// Fails with [`StoreError::Config`] while objects of the application depend on ours, [`StoreError::Conflict`] if there was no gap between the
/// application's transactions, [`StoreError::Unavailable`] if the database is unavailable.
pub async fn remove(url: &DatabaseUrl, wait_policy: &WaitPolicy<'_>) -> Result<Option<Installed>, StoreError> {
    let session = Session::open(url, OP).await?;
    let removed = match look(&session.client).await {
        Ok(Some(found)) => take_away(&session.client, found, wait_policy).await.map(Some),
        other => other,
    };
    session.close(removed).await
}

fn fail(error: tokio_postgres::Error) -> StoreError {
    StoreError::from_postgres(OP, error)
}

async fn look(client: &Client) -> Result<Option<Installed>, StoreError> {
    let rows = client.query_typed("select to_regnamespace('switchyard') is not null", &[]).await.map_err(fail)?;
    if !get(OP, &only(OP, rows)?, 0)? {
        return Ok(None);
    }
    let mut on_theirs = names(client, TRIGGERS).await?;
    // An installation that ended early may lack any of these.
    if catalogue::exists(client, "switchyard.mapping").await? {
        on_theirs.extend(names(client, INDEX).await?);
    }
    Ok(Some(Installed {
        on_the_applications_tables: on_theirs,
        agents: count(client, "switchyard.agent", "true").await?,
        logged: count(client, "switchyard.event_log", "true").await?,
        unpublished: count(client, "switchyard.outbox", "true").await?,
        unfinished: count(client, "switchyard.delivery", "state in ('a', 'f', 'p')").await?,
        in_the_way: names(client, DEPENDENT_OBJECTS).await?,
    }))
}

async fn take_away(client: &Client, found: Installed, wait_policy: &WaitPolicy<'_>) -> Result<Installed, StoreError> {
    if !found.in_the_way.is_empty() {
        let objects = found.in_the_way.join(", ");
        return Err(StoreError::config(format!(
            "objects of the application depend on Switchyard's: {objects}; drop them first"
        )));
    }
    wait_policy.each(client, OP, "the triggers on the application's tables", TRIGGERS).await?;
    if catalogue::exists(client, "switchyard.mapping").await? {
        wait_policy.each(client, OP, "the index on the events table", INDEX).await?;
    }
    wait_policy.each(client, OP, "the rights of our roles on the application's tables", RIGHTS).await?;
    let what = "schema switchyard";
    let mut tries = wait_policy.with(what);
    loop {
        tries.ready(client).await?;
        match client.batch_execute("drop schema if exists switchyard cascade").await.map_err(fail) {
            Ok(()) => break,
            Err(error) => tries.step_back(error).await?,
        }
    }
    (wait_policy.report)(Progress::Done(what));
    Ok(found)
}

async fn names(client: &Client, list: &str) -> Result<Vec<String>, StoreError> {
    client.query_typed(list, &[]).await.map_err(fail)?.iter().map(|row| get(OP, row, 0)).collect()
}

async fn count(client: &Client, table: &str, condition: &str) -> Result<i64, StoreError> {
    if !catalogue::exists(client, table).await? {
        return Ok(0);
    }
    let sql = format!("select count(*) from {table} where {condition}");
    get(OP, &only(OP, client.query_typed(&sql, &[]).await.map_err(fail)?)?, 0)
}
