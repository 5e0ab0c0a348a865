//! The index that a backfill of a large table needs, created and dropped while the application runs.

use tokio_postgres::Client;

use crate::row::{get, only};
use crate::setup::direct::Session;
use crate::{DatabaseUrl, StoreError};

const OP: &str = "index_history";

/// Creates the index on time and id, by which history is numbered, if the events table has none. Its name is `switchyard_history`, and it is created
/// concurrently, so that neither writers nor readers wait. Returns whether this call created it. It slows down each insert a little: when all
/// backfills are done, drop it with [`drop_history_index`].
///
/// Needs a direct connection and the ownership of the events table. It takes minutes on millions of events, and waits for older transactions.
///
/// Fails with [`StoreError::Config`] if the mapping names no time of creation, or the table is partitioned (Postgres creates no such index
/// concurrently), [`StoreError::Unavailable`] if the database is unavailable. The next call replaces a half-built index.
pub async fn index_history(url: &DatabaseUrl) -> Result<bool, StoreError> {
    let session = Session::open(url, OP).await?;
    let made = make(&session.client).await;
    session.close(made).await
}

/// Drops the index. An index of the application's, under another name, stays.
///
/// Fails as [`index_history`].
pub async fn drop_history_index(url: &DatabaseUrl) -> Result<(), StoreError> {
    let session = Session::open(url, OP).await?;
    let dropped = remove(&session.client).await;
    session.close(dropped).await
}

async fn make(client: &Client) -> Result<bool, StoreError> {
    let (exists, made, dropped) = statements(client).await?;
    if exists {
        return Ok(false);
    }
    let Some(made) = made else {
        return Err(StoreError::config(
            "the events table is partitioned, and Postgres makes no index on all of one concurrently: create one on time and id with \
             `create index ... on only`, one on each partition concurrently, and attach those to it",
        ));
    };
    // What is there and not valid was left by a call that did not come to its end; `if not exists` would keep it.
    client.batch_execute(&dropped).await.map_err(fail)?;
    client.batch_execute(&made).await.map_err(fail)?;
    Ok(true)
}

async fn remove(client: &Client) -> Result<(), StoreError> {
    let (_, _, dropped) = statements(client).await?;
    client.batch_execute(&dropped).await.map_err(fail)
}

/// Returns whether an index exists, and the statements that create (if possible) and drop ours.
async fn statements(client: &Client) -> Result<(bool, Option<String>, String), StoreError> {
    let sql = "select switchyard.history_index_exists(), made, dropped from switchyard.history_index_ddl()";
    let row = only(OP, client.query_typed(sql, &[]).await.map_err(fail)?)?;
    Ok((get(OP, &row, 0)?, get(OP, &row, 1)?, get(OP, &row, 2)?))
}

fn fail(error: tokio_postgres::Error) -> StoreError {
    StoreError::from_postgres(OP, error)
}
