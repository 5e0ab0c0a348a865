//! The roles that may call our functions. They are groups without a login; a team grants them to its own logins.

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::row::{get, only};
use crate::setup::direct::Session;
use crate::{DatabaseUrl, StoreError};

const OP: &str = "roles";

/// The role of the Lambda functions.
pub const RUNTIME: &str = "switchyard_runtime";
/// The role of the application, and of the old system that an agent replaces.
pub const APPLICATION: &str = "switchyard_application";
/// The role that reads the status.
pub const READER: &str = "switchyard_reader";

/// Creates the roles that are missing, if this role may. Returns the statements for a role that may, otherwise.
pub(super) async fn create(client: &Client) -> Result<Vec<String>, StoreError> {
    const MISSING: &str =
        "select u.name, (select r.rolsuper or r.rolcreaterole from pg_roles r where r.rolname = current_user)
        from unnest($1) u (name) where to_regrole(u.name) is null";
    let roles = [RUNTIME, APPLICATION, READER].as_slice();
    let mut left = Vec::new();
    for row in client.query_typed(MISSING, &[(&roles, Type::TEXT_ARRAY)]).await.map_err(fail)? {
        let (role, may): (String, bool) = (get(OP, &row, 0)?, get(OP, &row, 1)?);
        if may {
            // The setup of another database of this server may create it at the same time.
            let create = format!(
                "do $$ begin create role {role} nologin; exception when duplicate_object or unique_violation then null; end $$"
            );
            client.batch_execute(&create).await.map_err(fail)?;
        } else {
            left.push(format!("create role {role} nologin"));
        }
    }
    Ok(left)
}

/// Gives the roles that exist their rights, where they lack any.
pub(super) async fn grant(client: &Client) -> Result<(), StoreError> {
    client.batch_execute("select switchyard.grant_rights()").await.map_err(fail)
}

/// Returns what the setup found open and left as it is.
pub(super) async fn open(client: &Client) -> Result<Vec<String>, StoreError> {
    let rows = client.query_typed("select * from switchyard.open_rights()", &[]).await.map_err(fail)?;
    rows.iter().map(|row| get(OP, row, 0)).collect()
}

/// Grants the runtime role what agents do with tables of the application in schema `public`: a table, and rights such as `select, insert`. Tables that do
/// not exist are left out. Returns the statements for the owners of tables that are not this role's.
///
/// Fails as [`migrate`](crate::migrate).
pub async fn grant_to_runtime(url: &DatabaseUrl, tables: &[(&str, &str)]) -> Result<Vec<String>, StoreError> {
    let session = Session::open(url, OP).await?;
    let granted = grant_on(&session.client, tables).await;
    session.close(granted).await
}

async fn grant_on(client: &Client, tables: &[(&str, &str)]) -> Result<Vec<String>, StoreError> {
    let (names, rights): (Vec<&str>, Vec<&str>) = tables.iter().copied().unzip();
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&names, Type::TEXT_ARRAY), (&rights, Type::TEXT_ARRAY)];
    let rows = client.query_typed("select switchyard.grant_to_runtime($1, $2)", &parameters).await.map_err(fail)?;
    get(OP, &only(OP, rows)?, 0)
}

fn fail(error: tokio_postgres::Error) -> StoreError {
    StoreError::from_postgres(OP, error)
}
