//! The database of `cargo dev`: the sample application's tables with Switchyard's beside them, as a customer would have them.

use switchyard_localstack::{Error, postgres};
use switchyard_store::{DatabaseUrl, Domain, Replace, Store, StoreError, WaitPolicy};
use tokio_postgres::{Client, NoTls};

use crate::feedback::Feedback;
use crate::state::DATABASE;

/// Connections of the runner itself.
const CONNECTIONS: usize = 4;

/// Makes the database if it is not there, then brings the application's tables and ours up to date. Returns whether anything of ours was new.
pub(crate) async fn prepare(port: u16) -> Result<bool, Error> {
    let admin = postgres::url(port, "postgres");
    if !postgres::has_database(&admin, DATABASE).await? {
        postgres::create_database(&admin, DATABASE).await?;
    }
    let url = postgres::url(port, DATABASE);
    let client = connect(&url).await?;
    client.batch_execute(switchyard_feedback::TABLES).await.map_err(refused("make the sample application's tables"))?;
    let address = address(&url)?;
    let migrated = switchyard_store::migrate(&address).await.map_err(|source| match source {
        StoreError::Config { .. } => Error::Schema { source },
        other => other.into(),
    })?;
    let domain = Domain::parse(switchyard_feedback::DOMAIN)?;
    let set = switchyard_store::set_domain(&address, &domain, Replace::OwnVersion, &WaitPolicy::default()).await?;
    switchyard_store::grant_to_runtime(&address, switchyard_feedback::AGENTS_RIGHTS).await?;
    Ok(!migrated.applied.is_empty() || !set.triggers.is_empty())
}

/// Forgets what the last run left half done: the lease of a shim that was killed, for which the next one would wait, and the messages in the
/// queues, which LocalStack does not keep. Only for the process that is about to start the functions, so that nobody can hold or handle any.
/// Returns how many events go to the topic again.
pub(crate) async fn start_over(url: &str) -> Result<u64, Error> {
    let store = store(url)?;
    store.end_leases().await?;
    Ok(store.publish_again().await?)
}

/// The store of the running system.
pub(crate) fn store(url: &str) -> Result<Store, Error> {
    Ok(Store::open(&address(url)?, CONNECTIONS)?)
}

/// A connection for the application's own statements.
pub(crate) async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(refused("let us in"))?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// Inserts one piece of feedback, as the application would.
pub(crate) async fn insert(client: &Client, feedback: &Feedback) -> Result<(), tokio_postgres::Error> {
    const INSERT: &str = "insert into posts (id, project_id, user_id, title, description) values ($1, $2, $3, $4, $5)";
    let Feedback { id, project_id, user_id, title, description } = feedback;
    client.execute(INSERT, &[id, project_id, user_id, title, description]).await.map(drop)
}

/// Whether the application holds any feedback yet.
pub(crate) async fn has_feedback(client: &Client) -> Result<bool, Error> {
    let row = client.query_one("select exists (select from posts)", &[]).await.map_err(refused("count feedback"))?;
    Ok(row.get(0))
}

/// Wraps what the driver said.
pub(crate) fn refused(doing: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Error {
    move |source| Error::Database { doing: doing.to_owned(), source }
}

fn address(url: &str) -> Result<DatabaseUrl, Error> {
    Ok(url.parse::<DatabaseUrl>()?)
}
