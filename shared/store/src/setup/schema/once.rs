//! Files that are applied once: tables and indexes.

use std::collections::HashMap;
use std::slice;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::files::{self, File, digest};
use super::{OP, fail};
use crate::StoreError;
use crate::row::get;
use crate::setup::wait_policy::WaitPolicy;

/// What earlier setups applied, with the digest of each.
pub(super) type Before = HashMap<String, String>;

/// Creates the schema if it is missing, and returns what was applied to it.
///
/// Fails with [`StoreError::Config`] if a newer version of this program has set up the database.
pub(super) async fn before(client: &Client) -> Result<Before, StoreError> {
    const MAKE: &str = "create schema if not exists switchyard;
        create table if not exists switchyard.setup (name text primary key, sha256 text not null, at timestamptz not null default clock_timestamp())";
    client.batch_execute(MAKE).await.map_err(fail)?;
    let rows = client.query_typed("select name, sha256 from switchyard.setup", &[]).await.map_err(fail)?;
    let before: Before =
        rows.iter().map(|row| Ok((get(OP, row, 0)?, get(OP, row, 1)?))).collect::<Result<_, StoreError>>()?;
    let known = |name: &&String| {
        let name = name.as_str();
        name == files::FUNCTIONS_NAME
            || name == files::LOG_TRIGGER.name
            || files::TABLES.iter().any(|file| file.name == name)
    };
    match before.keys().find(|name| !known(name)) {
        None => Ok(before),
        Some(unknown) => Err(StoreError::config(format!(
            "a newer version of Switchyard has set this database up ({unknown}): use the setup of that version"
        ))),
    }
}

/// Applies a file, unless it was applied before. Returns whether it did.
///
/// Fails with [`StoreError::Config`] if another version of the file was applied.
pub(super) async fn apply(
    client: &mut Client,
    before: &Before,
    file: &File,
    wait_policy: &WaitPolicy<'_>,
) -> Result<bool, StoreError> {
    let digest = digest(slice::from_ref(file));
    match before.get(file.name) {
        Some(applied) if *applied == digest => return Ok(false),
        Some(_) => {
            return Err(StoreError::config(format!(
                "another version of {} was applied to this database, and a table is never replaced",
                file.name
            )));
        }
        None => {}
    }
    let mut tries = wait_policy.with(file.name);
    loop {
        tries.ready(client).await?;
        match apply_now(client, file, &digest).await {
            Ok(()) => return Ok(true),
            Err(failure) => tries.step_back(failure).await?,
        }
    }
}

async fn apply_now(client: &mut Client, file: &File, digest: &str) -> Result<(), StoreError> {
    let transaction = client.transaction().await.map_err(fail)?;
    transaction.batch_execute(file.sql).await.map_err(fail)?;
    let remember = "insert into switchyard.setup (name, sha256) values ($1, $2)";
    transaction.query_typed(remember, &[(&file.name, Type::TEXT), (&digest, Type::TEXT)]).await.map_err(fail)?;
    transaction.commit().await.map_err(fail)
}
