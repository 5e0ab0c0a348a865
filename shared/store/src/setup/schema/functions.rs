//! Functions: all of them are replaced if any has changed.
//!
//! `create or replace` keeps a function's grants and what depends on it. But it cannot change a function's signature or result, and it leaves
//! functions that no file defines any more. So a setup first rehearses in a transaction that it rolls back: it drops all functions, creates the new
//! ones, and compares. Functions without an equal among the new ones are then dropped before the real replacement. No statement of the application
//! waits for this.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, Transaction};

use super::files::{FUNCTIONS, FUNCTIONS_NAME, digest};
use super::once::Before;
use super::{OP, fail};
use crate::StoreError;
use crate::row::get;
use crate::setup::wait_policy::WaitPolicy;

/// Replaces the functions, if they have changed. Returns whether they had.
///
/// Fails with [`StoreError::Config`] if an object of the application depends on a function that is dropped.
pub(super) async fn replace(
    client: &mut Client,
    before: &Before,
    wait_policy: &WaitPolicy<'_>,
) -> Result<bool, StoreError> {
    let digest = digest(FUNCTIONS);
    if before.get(FUNCTIONS_NAME) == Some(&digest) {
        return Ok(false);
    }
    let mut tries = wait_policy.with(FUNCTIONS_NAME);
    loop {
        tries.ready(client).await?;
        match replace_now(client, &digest, wait_policy).await {
            Ok(()) => return Ok(true),
            Err(failure) => tries.step_back(failure).await?,
        }
    }
}

async fn replace_now(client: &mut Client, digest: &str, wait_policy: &WaitPolicy<'_>) -> Result<(), StoreError> {
    let outdated = rehearse(client).await?;
    if !outdated.is_empty() {
        // Each is a transaction of its own, since it locks the application's table.
        let triggers = TRIGGERS.replace("$1", &literal(&outdated));
        wait_policy.each(client, OP, "triggers that this version has no more", &triggers).await?;
    }
    let transaction = client.transaction().await.map_err(fail)?;
    let grants = drop_all(&transaction, &outdated).await?;
    make(&transaction).await?;
    transaction
        .batch_execute("revoke execute on all functions in schema switchyard from public")
        .await
        .map_err(fail)?;
    for grant in grants {
        regrant(&transaction, grant).await?;
    }
    let remember = "insert into switchyard.setup as s (name, sha256) values ($1, $2)
                    on conflict (name) do update set sha256 = excluded.sha256, at = clock_timestamp()";
    transaction.query_typed(remember, &[(&FUNCTIONS_NAME, Type::TEXT), (&digest, Type::TEXT)]).await.map_err(fail)?;
    transaction.commit().await.map_err(fail)
}

/// Creates the functions of the files, and those that `bind` writes. `bind` grants all of them.
async fn make(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    // A body that is text is looked at when it is called first, so the order is free; a test looks at all of them.
    transaction.batch_execute("set local check_function_bodies = off").await.map_err(fail)?;
    for file in FUNCTIONS {
        transaction.batch_execute(file.sql).await.map_err(fail)?;
    }
    transaction.batch_execute("select switchyard.bind()").await.map_err(fail)
}

/// Returns the functions that `create or replace` would leave behind or could not replace.
async fn rehearse(client: &mut Client) -> Result<Vec<u32>, StoreError> {
    const OUT_OF_THE_WAY: &str = "do $$
        declare
          f record;
        begin
          for f in select p.oid::regprocedure as signature, p.proname from pg_proc p where p.pronamespace = 'switchyard'::regnamespace loop
            execute format('alter function %s rename to %I', f.signature, '~' || f.proname);
          end loop;
        end $$";
    const WITHOUT_EQUAL: &str = "select o.oid from pg_proc o
        where o.pronamespace = 'switchyard'::regnamespace and o.proname like '~%' and not exists (
          select from pg_proc n
           where n.pronamespace = o.pronamespace and n.proname = substr(o.proname, 2) and n.proargtypes = o.proargtypes
             and n.prorettype = o.prorettype and n.proretset = o.proretset and n.proallargtypes is not distinct from o.proallargtypes
             and n.proargmodes is not distinct from o.proargmodes and n.proargnames is not distinct from o.proargnames
             and n.pronargdefaults >= o.pronargdefaults)
        order by o.oid";
    let any =
        client.query_typed("select from pg_proc p where p.pronamespace = 'switchyard'::regnamespace limit 1", &[]);
    if any.await.map_err(fail)?.is_empty() {
        return Ok(Vec::new());
    }
    let rehearsal = client.transaction().await.map_err(fail)?;
    rehearsal.batch_execute(OUT_OF_THE_WAY).await.map_err(fail)?;
    make(&rehearsal).await?;
    let rows = rehearsal.query_typed(WITHOUT_EQUAL, &[]).await.map_err(fail)?;
    rehearsal.rollback().await.map_err(fail)?;
    rows.iter().map(|row| get(OP, row, 0)).collect()
}

/// Triggers on the application's tables that call one of these functions.
const TRIGGERS: &str = "select format('trigger %I on %s', t.tgname, t.tgrelid::regclass), format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass)
    from pg_trigger t join pg_class c on c.oid = t.tgrelid
   where t.tgfoid = any ($1) and not t.tgisinternal and t.tgparentid = 0 and c.relnamespace <> 'switchyard'::regnamespace
   order by 1";

/// The grants of a function that was dropped.
struct Grant {
    function: String,
    role: String,
}

/// Drops these functions, those of ours whose parsed body calls them, and the triggers on our own tables. Returns the grants.
async fn drop_all(transaction: &Transaction<'_>, outdated: &[u32]) -> Result<Vec<Grant>, StoreError> {
    const CALLERS_TOO: &str = "with recursive gone (oid) as (
          select unnest($1)
          union select d.objid from gone g join pg_depend d on d.refclassid = 'pg_proc'::regclass and d.refobjid = g.oid
                  and d.classid = 'pg_proc'::regclass join pg_proc p on p.oid = d.objid and p.pronamespace = 'switchyard'::regnamespace)
        select oid from gone order by oid";
    const DROP: &str = "select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass) from pg_trigger t
         where t.tgfoid = any ($1) and not t.tgisinternal and t.tgparentid = 0
        union all
        select 'drop function ' || string_agg(p.oid::regprocedure::text, ', ') from pg_proc p where p.oid = any ($1)";
    const GRANTS: &str =
        "select p.proname::text, a.grantee::regrole::text from pg_proc p cross join lateral aclexplode(p.proacl) a
         where p.oid = any ($1) and a.grantee not in (0, p.proowner) and a.privilege_type = 'EXECUTE'";
    if outdated.is_empty() {
        return Ok(Vec::new());
    }
    let rows = query(transaction, &CALLERS_TOO.replace("$1", &literal(outdated))).await?;
    let gone = rows.iter().map(|row| get(OP, row, 0)).collect::<Result<Vec<u32>, _>>()?;
    let grants = query(transaction, &GRANTS.replace("$1", &literal(&gone))).await?;
    let grants = grants
        .iter()
        .map(|row| Ok(Grant { function: get(OP, row, 0)?, role: get(OP, row, 1)? }))
        .collect::<Result<_, StoreError>>()?;
    for row in query(transaction, &DROP.replace("$1", &literal(&gone))).await? {
        let statement: String = get(OP, &row, 0)?;
        transaction.batch_execute(&statement).await.map_err(stands_on_it)?;
    }
    Ok(grants)
}

/// Gives the grants of a dropped function to the new one of the same name.
async fn regrant(transaction: &Transaction<'_>, grant: Grant) -> Result<(), StoreError> {
    const SQL: &str = "select format('grant execute on function %s to %s', p.oid::regprocedure, $2)
        from pg_proc p where p.pronamespace = 'switchyard'::regnamespace and p.proname = $1";
    let Grant { function, role } = grant;
    let rows = transaction.query_typed(SQL, &[(&function, Type::TEXT), (&role, Type::TEXT)]).await.map_err(fail)?;
    for row in rows {
        let statement: String = get(OP, &row, 0)?;
        transaction.batch_execute(&statement).await.map_err(fail)?;
    }
    Ok(())
}

async fn query(transaction: &Transaction<'_>, sql: &str) -> Result<Vec<Row>, StoreError> {
    transaction.query_typed(sql, &[]).await.map_err(fail)
}

fn literal(oids: &[u32]) -> String {
    let numbers: Vec<String> = oids.iter().map(u32::to_string).collect();
    format!("'{{{}}}'::oid[]", numbers.join(","))
}

/// Returns the error for a view, a default or a function of the application that depends on one.
fn stands_on_it(error: tokio_postgres::Error) -> StoreError {
    match error.as_db_error() {
        Some(database) if database.code().code() == "2BP01" => StoreError::config(format!(
            "the application's own objects stand on functions that this version changes, and nothing was changed: drop them first\n{}",
            database.detail().unwrap_or_else(|| database.message())
        )),
        _ => fail(error),
    }
}
