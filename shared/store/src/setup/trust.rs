//! Whose SQL can run as the owner of our functions.
//!
//! The application's triggers on its events table run inside a function of ours, on the application's search path. A role that may create in one of
//! those schemas could put a function there that such a trigger then calls with the owner's rights. A role that may create in schema `switchyard`, or
//! owns it, could do the same to our own functions.

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::StoreError;
use crate::row::{get, only};
use crate::setup::catalogue;

const OP: &str = "checking the schemas";

/// The schemas on the default search path of this role.
const SCHEMAS: &str = "select pg_catalog.current_schemas(false)::pg_catalog.text[]";

/// Trusted are superusers, this role, the owners of the database and of the events table, and whoever is a member of one of them.
const OPEN: &str = "with trusted (oid) as (
      select r.oid from pg_roles r where r.rolname = current_user
      union select d.datdba from pg_database d where d.datname = current_database()
      union select c.relowner from pg_class c where c.oid = to_regclass(format('%I.%I', $2::text, $3::text)))
    select format('revoke create on schema %I from %s', n.nspname, case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)
      from pg_namespace n cross join lateral aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
     where n.nspname = any ($1) and a.privilege_type = 'CREATE'
       and case when a.grantee = 0 then true
                else pg_get_userbyid(a.grantee) <> 'pg_database_owner'
                     and not exists (select from trusted t where pg_has_role(a.grantee, t.oid, 'member')) end
     order by 1";

/// The owner of our schema, if it is a role that this one cannot act as.
const OWNER: &str = "select quote_ident(pg_get_userbyid(n.nspowner)) from pg_namespace n
    where n.nspname = 'switchyard' and not pg_has_role(n.nspowner, 'member')";

/// Fails with [`StoreError::Config`] while another role may create objects where our functions, or the application's triggers inside them, look for
/// names. The error has the statements that mend it. `events` is the schema and the name of the events table.
pub(super) async fn check(client: &Client, events: (&str, &str)) -> Result<(), StoreError> {
    let rows = client.query_typed(OWNER, &[]).await.map_err(fail)?;
    if let Some(row) = rows.first() {
        let owner: String = get(OP, row, 0)?;
        return Err(StoreError::config(format!(
            "the schema switchyard belongs to {owner}, who could replace what is in it: use that role for the setup, or drop the schema if it is not \
             from an earlier setup"
        )));
    }
    client.batch_execute("reset search_path").await.map_err(fail)?;
    let mut schemas: Vec<String> = get(OP, &only(OP, client.query_typed(SCHEMAS, &[]).await.map_err(fail)?)?, 0)?;
    client.batch_execute("set search_path = pg_catalog, pg_temp").await.map_err(fail)?;
    schemas.extend(["switchyard".to_owned(), events.0.to_owned()]);
    schemas.extend(catalogue::schema_of_events(client).await?);
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&schemas, Type::TEXT_ARRAY), (&events.0, Type::TEXT), (&events.1, Type::TEXT)];
    let rows = client.query_typed(OPEN, &parameters).await.map_err(fail)?;
    let statements = rows.iter().map(|row| get(OP, row, 0)).collect::<Result<Vec<String>, _>>()?;
    if statements.is_empty() {
        return Ok(());
    }
    Err(StoreError::config(format!(
        "other roles may create objects in schemas where triggers on the events table look for names, so their SQL could run as the owner of \
         Switchyard's functions; run this first:\n{};",
        statements.join(";\n")
    )))
}

fn fail(error: tokio_postgres::Error) -> StoreError {
    StoreError::from_postgres(OP, error)
}
