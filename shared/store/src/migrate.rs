//! Migrations: the only part that needs a direct connection.

use std::time::{Duration, Instant};

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

/// How long a DDL statement may wait for the application's transactions, since those that come after it queue behind it. Then it steps
/// back for ten times as long and more: the application is held up for a tenth of a second now and then, and never longer because of us.
const LOCK_TIMEOUT: &str = "100ms";
const PAUSE: Duration = Duration::from_secs(1);
/// A minute of trying, for the migrations and for each trigger.
const TRIES: u32 = 40;

/// Brings a database up to date: applies what is missing and installs the triggers on application tables that have appeared since.
/// Needs a direct connection (not a transaction-mode pooler) and the right to create a schema. Safe on a live database, to repeat,
/// and to run twice at once.
///
/// Fails with [`StoreError::Config`] where `public.events` is of another shape, [`StoreError::Conflict`] when the application's
/// transactions left no gap for a minute (what was applied so far stays; run it again), [`StoreError::Unavailable`] when the database is.
pub async fn migrate(url: &DatabaseUrl) -> Result<Migrated, StoreError> {
    if url.wants_tls() {
        let (client, connection) = url.config().connect(store::tls(url)?).await.map_err(StoreError::from_connecting)?;
        alongside(connection, run(client)).await
    } else {
        let (client, connection) = url.config().connect(NoTls).await.map_err(StoreError::from_connecting)?;
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
    // Migrations speak of `public` by name; the notices of `if not exists` are of no use to anybody.
    let settings =
        format!("set client_min_messages = warning; set search_path = public; set lock_timeout = '{LOCK_TIMEOUT}'");
    client.batch_execute(&settings).await.map_err(fail)?;
    let migrated = match lock(&client).await {
        Ok(()) => apply(&mut client).await,
        Err(e) => Err(e),
    };
    // Gone with the session; but where this is a pooler's, in spite of the documentation, the application gets it next.
    let tidy = format!("select pg_advisory_unlock({ADVISORY_LOCK}); reset all");
    let tidied = client.batch_execute(&tidy).await.map_err(fail);
    migrated.and_then(|migrated| tidied.map(|()| migrated))
}

async fn apply(client: &mut Client) -> Result<Migrated, StoreError> {
    client.batch_execute("create schema if not exists switchyard").await.map_err(fail)?;
    let applied = migrations(client).await?;
    // New functions are everybody's until this: some of them act with the owner's rights.
    let revoke = "revoke execute on all functions in schema switchyard from public";
    client.batch_execute(revoke).await.map_err(fail)?;
    let triggers = triggers(client).await?;
    Ok(Migrated { applied, triggers })
}

fn fail(error: tokio_postgres::Error) -> StoreError {
    StoreError::from_postgres("migrate", error)
}

/// Waits a little longer each time, so as not to fall into step with something that repeats.
async fn pause(tries: u32) {
    tracing::info!(tries, "the application is busy, the migration waits for a gap");
    tokio::time::sleep(PAUSE + PAUSE * tries / TRIES).await;
}

/// Waits for another migrator to end, for as long as one may take.
async fn lock(client: &Client) -> Result<(), StoreError> {
    let sql = format!("select pg_try_advisory_lock({ADVISORY_LOCK})");
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let rows = client.query_typed(&sql, &[]).await.map_err(fail)?;
        if crate::claim::get("migrate", &store::only("migrate", rows)?, 0)? {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(StoreError::config("another migration of this database does not come to an end"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn migrations(client: &mut Client) -> Result<Vec<String>, StoreError> {
    let mut applied = Vec::new();
    let mut tries = 0;
    loop {
        tries += 1;
        let mut runner = embedded::migrations::runner();
        runner.set_migration_table_name("switchyard.migration");
        match runner.run_async(client).await {
            Ok(report) => {
                applied.extend(report.applied_migrations().iter().map(ToString::to_string));
                return Ok(applied);
            }
            Err(error) => {
                applied.extend(error.report().iter().flat_map(|r| r.applied_migrations()).map(ToString::to_string));
                let error = explain(error);
                if !error.is_conflict() || tries >= TRIES {
                    return Err(error);
                }
                pause(tries).await;
            }
        }
    }
}

/// Each in a transaction of its own, since it locks out its table's writers until the end; what is installed stays installed.
async fn triggers(client: &Client) -> Result<Vec<String>, StoreError> {
    const OP: &str = "migrate";
    let mut installed = Vec::new();
    let mut tries = 0;
    loop {
        let missing =
            client.query_typed("select name, ddl from switchyard.missing_triggers()", &[]).await.map_err(fail)?;
        let mut busy = None;
        for row in &missing {
            let (name, ddl): (String, String) = (crate::claim::get(OP, row, 0)?, crate::claim::get(OP, row, 1)?);
            match client.batch_execute(&ddl).await.map_err(fail) {
                Ok(()) => installed.push(name),
                Err(error) if error.is_conflict() => busy = Some(error),
                Err(error) => return Err(error),
            }
        }
        let Some(error) = busy else { return Ok(installed) };
        tries += 1;
        if tries >= TRIES {
            return Err(error);
        }
        pause(tries).await;
    }
}

/// The database's own error out of the library's, so that it is sorted like any other.
fn explain(error: refinery::Error) -> StoreError {
    match error.kind() {
        refinery::error::Kind::Connection(_, _) => StoreError::from_wrapped("migrate", error),
        _ => StoreError::config(format!("the migrations do not fit this database: {error}")),
    }
}
