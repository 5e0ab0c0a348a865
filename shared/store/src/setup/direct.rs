//! A direct connection, for the setup and the removal, which need a session.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

use crate::row::{get, only};
use crate::{DatabaseUrl, StoreError, connect};

/// The number of the advisory lock that lets one setup run at a time.
const ADVISORY_LOCK: i64 = 0x5357_4954_4348;

/// A session that excludes other setups of its database. It ends with its client.
pub(crate) struct Session {
    pub(crate) client: Client,
    operation: &'static str,
}

impl Session {
    /// Fails with [`StoreError::Config`] if another setup does not end within three minutes.
    pub(crate) async fn open(url: &DatabaseUrl, operation: &'static str) -> Result<Self, StoreError> {
        let client = if url.wants_tls() {
            let connected = url.config().connect(connect::tls(url)?).await;
            let (client, connection) = connected.map_err(StoreError::from_connecting)?;
            tokio::spawn(connection);
            client
        } else {
            let (client, connection) = url.config().connect(NoTls).await.map_err(StoreError::from_connecting)?;
            tokio::spawn(connection);
            client
        };
        // Bodies that are parsed when they are created find no function or operator of another role. Notices of `if not exists` are useless here.
        let settings = "set client_min_messages = warning; set search_path = pg_catalog, pg_temp";
        client.batch_execute(settings).await.map_err(|error| StoreError::from_postgres(operation, error))?;
        let session = Self { client, operation };
        match lock(&session.client, operation).await {
            Ok(()) => Ok(session),
            Err(refused) => session.close(Err(refused)).await,
        }
    }

    /// Resets the session and returns the result of the work. Closing a session releases its locks and settings, but a pooler, if one is used in
    /// spite of the documentation, gives the session to the application next.
    pub(crate) async fn close<T>(self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        let tidy = format!("select pg_advisory_unlock({ADVISORY_LOCK}); reset all");
        let tidied = self.client.batch_execute(&tidy).await;
        let done = done?;
        tidied.map_err(|error| StoreError::from_postgres(self.operation, error))?;
        Ok(done)
    }
}

/// Waits for another setup to end, for as long as one may take.
async fn lock(client: &Client, operation: &'static str) -> Result<(), StoreError> {
    let sql = format!("select pg_try_advisory_lock({ADVISORY_LOCK})");
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let rows = client.query_typed(&sql, &[]).await.map_err(|error| StoreError::from_postgres(operation, error))?;
        if get(operation, &only(operation, rows)?, 0)? {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(StoreError::config("another setup of this database does not come to an end"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
