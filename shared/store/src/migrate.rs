//! Migrations: the only part that needs a direct connection.

use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use crate::{DatabaseUrl, StoreError, store};

mod embedded {
    #![allow(missing_docs, clippy::unwrap_used, reason = "written by the macro")]
    refinery::embed_migrations!("migrations");
}

/// What [`migrate`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The migrations applied by this call, such as `V1__events`.
    pub applied: Vec<String>,
    /// The triggers installed by this call, such as `posts insert`.
    pub triggers: Vec<String>,
}

/// Two migrators at a time would trip over each other; this is the number they agree on.
const ADVISORY_LOCK: i64 = 0x5357_4954_4348;

/// How long a DDL statement may wait for the application's transactions, since those that come after it queue behind it. Short, and then
/// tried again: the application never waits long because of us.
const LOCK_TIMEOUT: &str = "2s";
const TRIES: u32 = 30;

/// Brings a database up to date: applies what is missing and installs the triggers on application tables that have appeared since.
/// Needs a direct connection (not a transaction-mode pooler) and the right to create a schema. Safe on a live database, to repeat,
/// and to run twice at once.
///
/// Fails with [`StoreError::Config`] where `public.events` is of another shape, [`StoreError::Conflict`] when the application's
/// transactions left no gap for a minute (what was applied so far stays; run it again), [`StoreError::Unavailable`] when the database is.
pub async fn migrate(url: &DatabaseUrl) -> Result<Migrated, StoreError> {
    if url.wants_tls() {
        let (client, connection) =
            url.config().connect(store::tls(url)?).await.map_err(|e| StoreError::from_postgres("connecting", e))?;
        alongside(connection, run(client)).await
    } else {
        let (client, connection) =
            url.config().connect(NoTls).await.map_err(|e| StoreError::from_postgres("connecting", e))?;
        alongside(connection, run(client)).await
    }
}

/// Drives the connection while the work goes on; the work ends with the client, and the connection with it.
async fn alongside<T>(
    connection: impl Future<Output = Result<(), tokio_postgres::Error>>,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let (_, answer) = tokio::join!(connection, work);
    answer
}

async fn run(mut client: Client) -> Result<Migrated, StoreError> {
    let fail = |e| StoreError::from_postgres("migrate", e);
    // Held by the session, so gone with it, whatever happens.
    client.batch_execute(&format!("select pg_advisory_lock({ADVISORY_LOCK})")).await.map_err(fail)?;
    // Migrations speak of `public` by name; the notices of `if not exists` are of no use to anybody.
    client
        .batch_execute(&format!(
            "set client_min_messages = warning; set search_path = public; set lock_timeout = '{LOCK_TIMEOUT}';
             create schema if not exists switchyard"
        ))
        .await
        .map_err(fail)?;

    let mut applied = Vec::new();
    let mut tries = 0;
    loop {
        tries += 1;
        let mut runner = embedded::migrations::runner();
        runner.set_migration_table_name("switchyard.migration");
        match runner.run_async(&mut client).await {
            Ok(report) => {
                applied.extend(report.applied_migrations().iter().map(ToString::to_string));
                break;
            }
            Err(error) => {
                applied.extend(error.report().iter().flat_map(|r| r.applied_migrations()).map(ToString::to_string));
                let error = explain(error);
                if !error.is_conflict() || tries >= TRIES {
                    return Err(error);
                }
                tracing::info!(tries, "the application is busy, the migration waits for a gap");
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }

    let triggers = loop {
        tries += 1;
        match client.query_typed("select switchyard.install_triggers()", &[]).await.map_err(fail) {
            Ok(rows) => {
                break rows
                    .first()
                    .map(|row| crate::claim::get("install_triggers", row, 0))
                    .transpose()?
                    .unwrap_or_default();
            }
            Err(error) if error.is_conflict() && tries < 2 * TRIES => {
                tokio::time::sleep(Duration::from_millis(250)).await
            }
            Err(error) => return Err(error),
        }
    };
    Ok(Migrated { applied, triggers })
}

/// The database's own error out of the library's, so that it is sorted like any other.
fn explain(error: refinery::Error) -> StoreError {
    match error.kind() {
        refinery::error::Kind::Connection(_, _) => StoreError::from_wrapped("migrate", error),
        _ => StoreError::config(format!("the migrations do not fit this database: {error}")),
    }
}
