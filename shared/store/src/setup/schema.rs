//! Our schema, as files in `sql/`. Each file of tables is applied once and then never changes. Every setup replaces the functions.
//!
//! `switchyard.setup` stores the digest of each file that was applied, so a setup with nothing new sends three statements.

mod files;
mod functions;
mod once;

use tokio_postgres::Client;

use crate::StoreError;
use crate::setup::wait_policy::{Progress, WaitPolicy};

const OP: &str = "migrate";

/// Brings the schema up to date: missing tables, then the functions, then the trigger that logs events and calls them. Returns what was applied, in
/// this order. Each step is a transaction of its own, so that what is done stays done.
pub(crate) async fn bring_up_to_date(
    client: &mut Client,
    wait_policy: &WaitPolicy<'_>,
) -> Result<Vec<String>, StoreError> {
    let mut applied = Vec::new();
    let mut done = |name: &str| {
        (wait_policy.report)(Progress::Done(name));
        applied.push(name.to_owned());
    };
    let before = once::before(client).await?;
    for table in files::TABLES {
        if once::apply(client, &before, table, wait_policy).await? {
            done(table.name);
        }
    }
    if functions::replace(client, &before, wait_policy).await? {
        done(files::FUNCTIONS_NAME);
    }
    if once::apply(client, &before, &files::LOG_TRIGGER, wait_policy).await? {
        done(files::LOG_TRIGGER.name);
    }
    Ok(applied)
}

fn fail(error: tokio_postgres::Error) -> StoreError {
    StoreError::from_postgres(OP, error)
}
