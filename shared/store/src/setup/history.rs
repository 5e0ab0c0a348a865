//! The index that a backfill of a large table needs, made and taken away beside a running application.

use tokio_postgres::Client;

use crate::row::{get, only};
use crate::setup::direct::Session;
use crate::{DatabaseUrl, StoreError};

const OP: &str = "index_history";

/// Makes the index on time and id, by which events from before the log are numbered, if the events table has none: under the name
/// `switchyard_history`, concurrently, so that neither writers nor readers wait. Returns whether it was made by this call. It costs each insert a
/// little: once all backfills are done, [`drop_history_index`] takes it away.
///
/// Needs a direct connection and to own the events table; takes minutes on millions of events, and waits for transactions that were there before.
///
/// Fails with [`StoreError::Config`] if the mapping names no time of creation, or the table is partitioned (of which Postgres makes no index
/// concurrently), [`StoreError::Unavailable`] when the database is. What was left half made is made anew by the next call.
pub async fn index_history(url: &DatabaseUrl) -> Result<bool, StoreError> {
    let session = Session::open(url, OP).await?;
    let made = make(&session.client).await;
    session.close(made).await
}

/// Takes the index away again. One that the application has made under a name of its own stays.
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

/// Whether there is such an index, and the statements that make (where that can be done) and drop ours.
async fn statements(client: &Client) -> Result<(bool, Option<String>, String), StoreError> {
    let sql = "select switchyard.history_index_exists(), made, dropped from switchyard.history_index_ddl()";
    let row = only(OP, client.query_typed(sql, &[]).await.map_err(fail)?)?;
    Ok((get(OP, &row, 0)?, get(OP, &row, 1)?, get(OP, &row, 2)?))
}

fn fail(error: tokio_postgres::Error) -> StoreError {
    StoreError::from_postgres(OP, error)
}
