//! Migrations: what makes a database ready, on a live table too.

use refinery::Target;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::claim::get;
use crate::direct::Session;
use crate::mapping::{EventsTable, Mapping};
use crate::patience::{Patience, Progress};
use crate::{DatabaseUrl, StoreError, catalogue, store};

mod embedded {
    #![allow(missing_docs, clippy::unwrap_used, reason = "written by the macro")]
    refinery::embed_migrations!("migrations");
}

const OP: &str = "migrate";

/// What [`migrate`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The migrations applied by this call, such as `V1__events`.
    pub applied: Vec<String>,
    /// The triggers installed by this call, such as `posts insert`.
    pub triggers: Vec<String>,
    /// The events table, and its columns by our names.
    pub events: Mapping,
    /// Whether that table or one of its columns had another name before, which was ours until this call.
    pub renamed: bool,
    /// Whether that table can be searched by time: with an index on `created_at`, events that came while the log's trigger was disabled are found.
    pub found_by_time: bool,
}

/// Brings a database up to date: applies what is missing and installs the triggers on application tables that have appeared since. The events
/// are those of the first time, `public.events` where none was named, under the names that they have now. See [`migrate_with`].
pub async fn migrate(url: &DatabaseUrl) -> Result<Migrated, StoreError> {
    migrate_with(url, None, &Patience::default()).await
}

/// The same for an events table that the caller names, and with the caller's patience.
///
/// Needs a direct connection (not a transaction-mode pooler), the right to create a schema, and to own the tables that get a trigger. Safe on a
/// live database, to repeat, and to run twice at once. Each migration and each trigger is a transaction of its own, so what is done stays done.
///
/// The only lock that an application's writers wait for is the one under which a trigger is created: for the milliseconds that takes, and while it
/// waits for the transactions that have written to the same table (see [`Patience`]). Readers wait for nothing.
///
/// Fails with [`StoreError::Config`] where the events table is of another shape or another one than at the first time,
/// [`StoreError::Conflict`] when the application's transactions left no gap (what was applied so far stays; run it again),
/// [`StoreError::Unavailable`] when the database is.
pub async fn migrate_with(
    url: &DatabaseUrl,
    events: Option<&EventsTable>,
    patience: &Patience<'_>,
) -> Result<Migrated, StoreError> {
    let mut session = Session::open(url, OP).await?;
    let migrated = match decided(&session.client, events, patience).await {
        Ok((events, renamed)) => apply(&mut session.client, events, renamed, patience).await,
        // Before anything was created: a table that will not do is left without a trace of ours.
        Err(refused) => Err(refused),
    };
    session.close(migrated).await
}

fn fail(error: tokio_postgres::Error) -> StoreError {
    StoreError::from_postgres(OP, error)
}

/// Which table it is: the one that the database remembers, or what was asked for where it fits; and whether it was remembered by another name.
async fn decided(
    client: &Client,
    asked: Option<&EventsTable>,
    patience: &Patience<'_>,
) -> Result<(Mapping, bool), StoreError> {
    let mut tries = patience.with("the new names of the table and its columns");
    let renamed = loop {
        tries.ready(client).await?;
        match catalogue::follow_renames(client).await {
            Ok(renamed) => break renamed,
            Err(failure) => tries.step_back(failure).await?,
        }
    };
    let remembered = catalogue::mapping(client).await?;
    let table = match (&remembered, asked) {
        (Some(remembered), None) => return Ok((remembered.clone(), renamed)),
        (_, Some(table)) => table.clone(),
        (None, None) => EventsTable::customary(),
    };
    let mapping = match catalogue::shape(client, &table.schema, &table.table).await? {
        Some(shape) => table.on(&shape).map_err(|problems| StoreError::config(problems.join("\n")))?,
        None if asked.is_none() => Mapping::of_our_own(),
        None => {
            return Err(StoreError::config(format!(
                "there is no table {}: \"schema\" and \"table\" are spelled as in the catalogue, without quotes",
                table.name()
            )));
        }
    };
    match remembered {
        Some(remembered) if remembered != mapping => Err(StoreError::config(format!(
            "Switchyard is installed on {remembered}, and this is {mapping}: it stays where it is. To move it, remove it first \
             (`switchyard-setup --remove`), which ends the ledger"
        ))),
        _ => Ok((mapping, renamed)),
    }
}

async fn apply(
    client: &mut Client,
    events: Mapping,
    renamed: bool,
    patience: &Patience<'_>,
) -> Result<Migrated, StoreError> {
    client.batch_execute("create schema if not exists switchyard").await.map_err(fail)?;
    let applied = migrations(client, &events, patience).await?;
    // New functions are everybody's until this: some of them act with the owner's rights.
    let revoke = "revoke execute on all functions in schema switchyard from public";
    client.batch_execute(revoke).await.map_err(fail)?;
    // Each locks out its table's writers until the end of its transaction.
    let missing = "select name, ddl from switchyard.missing_triggers()";
    let triggers = patience.each(client, OP, "the triggers on the application's tables", missing).await?;
    let rows = client.query_typed("select switchyard.found_by_time()", &[]).await.map_err(fail)?;
    let found_by_time = get(OP, &store::only(OP, rows)?, 0)?;
    Ok(Migrated { applied, triggers, events, renamed, found_by_time })
}

/// Each in a transaction of its own.
async fn migrations(client: &mut Client, events: &Mapping, patience: &Patience<'_>) -> Result<Vec<String>, StoreError> {
    // The first of them reads it.
    let json = serde_json::to_string(events).map_err(|e| StoreError::bug(OP, e.to_string()))?;
    let set = "select set_config('switchyard.mapping', $1, false)";
    client.query_typed(set, &[(&json, Type::TEXT)]).await.map_err(fail)?;
    let mut versions: Vec<_> = runner().get_migrations().iter().map(|m| (m.version(), m.to_string())).collect();
    versions.sort_unstable();
    let mut applied = Vec::new();
    for (version, name) in versions {
        let target = runner().set_target(Target::Version(version));
        let mut tries = patience.with(&name);
        let report = loop {
            tries.ready(client).await?;
            match target.run_async(client).await.map_err(explain) {
                Ok(report) => break report,
                Err(failure) => tries.step_back(failure).await?,
            }
        };
        for done in report.applied_migrations() {
            let done = done.to_string();
            (patience.tell)(Progress::Done(&done));
            applied.push(done);
        }
    }
    Ok(applied)
}

fn runner() -> refinery::Runner {
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name("switchyard.migration");
    runner
}

/// The database's own error out of the library's, so that it is sorted like any other.
fn explain(error: refinery::Error) -> StoreError {
    match error.kind() {
        refinery::error::Kind::Connection(_, _) => StoreError::from_wrapped(OP, error),
        _ => StoreError::config(format!("the migrations do not fit this database: {error}")),
    }
}
