//! The setup, which prepares a database, also one with live tables.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::row::{get, only};
use crate::setup::direct::Session;
use crate::setup::mapping::{EventsTable, Mapping};
use crate::setup::wait_policy::WaitPolicy;
use crate::setup::{catalogue, domain, roles, schema, trust};
use crate::{DatabaseUrl, StoreError};

const OP: &str = "migrate";

/// What [`migrate`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// What this call applied: files of tables, such as `tables/events`, then `functions` and `log_trigger`.
    pub applied: Vec<String>,
    /// The triggers on tables of the domain that this call created, such as `orders insert`, and those that it dropped.
    pub triggers: Vec<String>,
    /// The events table, and its columns by our names.
    pub events: Mapping,
    /// Whether the table or one of its columns was renamed since the last setup.
    pub renamed: bool,
    /// Whether the table has an index on `created_at`, by which events that came while the log's trigger was disabled are found.
    pub found_by_time: bool,
    /// The statements that create the roles ([`RUNTIME`](crate::RUNTIME) and its siblings) that are missing, for somebody who may create roles. The next
    /// setup then grants them their rights.
    pub missing_roles: Vec<String>,
    /// What others may do with the events table or our functions, a line each, such as `anon may insert on public.events`. The setup leaves it as it is.
    pub open: Vec<String>,
}

/// Brings a database up to date: applies what is missing, and creates the triggers on tables of the domain ([`set_domain`](crate::set_domain)) that
/// are new. The events table is the one of the first setup, `public.events` if none was named, under its present names. See [`migrate_with`].
pub async fn migrate(url: &DatabaseUrl) -> Result<Migrated, StoreError> {
    migrate_with(url, None, &WaitPolicy::default()).await
}

/// The same for an events table and a wait policy of the caller.
///
/// Needs a direct connection (not a transaction-mode pooler), the right to create a schema, and the ownership of the tables that get a trigger. It
/// may run on a live database, repeatedly, and twice at once. Each file of tables, all functions together, and each trigger are a transaction of
/// their own, so what is done stays done. The functions are replaced if any of them has changed: see [`crate`].
///
/// The application's writers wait for one lock only, under which a trigger is created: for the milliseconds that this takes, and while it waits for
/// the transactions that have written to the same table (see [`WaitPolicy`]). Readers never wait.
///
/// Fails with [`StoreError::Config`] if the events table does not fit or is not the one of the first setup, or while other roles may create objects in
/// a schema on the search path (the error has the statements that mend it), [`StoreError::Conflict`] if the
/// application's transactions left no gap (what was applied stays; run it again), [`StoreError::Unavailable`] if the database is unavailable.
pub async fn migrate_with(
    url: &DatabaseUrl,
    events: Option<&EventsTable>,
    wait_policy: &WaitPolicy<'_>,
) -> Result<Migrated, StoreError> {
    let mut session = Session::open(url, OP).await?;
    let migrated = match decided(&session.client, events, wait_policy).await {
        Ok((events, renamed)) => apply(&mut session.client, events, renamed, wait_policy).await,
        // Before anything was created: a table that will not do is left without a trace of ours.
        Err(refused) => Err(refused),
    };
    session.close(migrated).await
}

fn fail(error: tokio_postgres::Error) -> StoreError {
    StoreError::from_postgres(OP, error)
}

/// Returns the events table, the stored one or the given one if it fits, and whether it was renamed.
async fn decided(
    client: &Client,
    asked: Option<&EventsTable>,
    wait_policy: &WaitPolicy<'_>,
) -> Result<(Mapping, bool), StoreError> {
    let named = match (catalogue::mapping(client).await?, asked) {
        (Some(remembered), _) => (remembered.schema, remembered.table),
        (None, Some(table)) => (table.schema.clone(), table.table.clone()),
        (None, None) => (EventsTable::customary().schema, EventsTable::customary().table),
    };
    trust::check(client, (&named.0, &named.1)).await?;
    let mut tries = wait_policy.with("the new names of the table and its columns");
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
    wait_policy: &WaitPolicy<'_>,
) -> Result<Migrated, StoreError> {
    // The first of the tables reads it.
    let json = serde_json::to_string(&events).map_err(|e| StoreError::bug(OP, e.to_string()))?;
    let set = "select set_config('switchyard.mapping', $1, false)";
    client.query_typed(set, &[(&json, Type::TEXT)]).await.map_err(fail)?;
    let missing_roles = roles::create(client).await?;
    let applied = schema::bring_up_to_date(client, wait_policy).await?;
    let triggers = domain::bring_triggers_up_to_date(client, wait_policy).await?;
    roles::grant(client).await?;
    let open = roles::open(client).await?;
    let rows = client.query_typed("select switchyard.found_by_time()", &[]).await.map_err(fail)?;
    let found_by_time = get(OP, &only(OP, rows)?, 0)?;
    Ok(Migrated { applied, triggers, events, renamed, found_by_time, missing_roles, open })
}
