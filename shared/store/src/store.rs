//! The pool, and the one way in which a statement is sent.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Config, NoTls, Row};

use crate::connect::{Connector, UrlSource};
use crate::{DatabaseUrl, StoreError};

/// The store: a pool of connections. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    /// Cancelling a statement opens a connection, too.
    connector: Connector,
    /// How long a statement outside of a transaction may take, its connection included.
    limit: Option<Duration>,
}

impl Store {
    /// Opens a store. Does no I/O: an unreachable database shows at the first call.
    ///
    /// Fails with [`StoreError::Config`] if the URL asks for TLS with a root certificate that cannot be read.
    pub fn open(url: &DatabaseUrl, max_connections: usize) -> Result<Self, StoreError> {
        Self::pooled(Connector::new(url, None)?, max_connections)
    }

    /// Opens a store whose URL may change while it is open, as it does when a password is rotated. When the database refuses the login, the
    /// store reads the URL from `source` again and connects with that; connections that are open stay open.
    ///
    /// Fails as [`Store::open`].
    pub fn open_from(url: &DatabaseUrl, source: impl UrlSource, max_connections: usize) -> Result<Self, StoreError> {
        Self::pooled(Connector::new(url, Some(Box::new(source)))?, max_connections)
    }

    fn pooled(connector: Connector, max_connections: usize) -> Result<Self, StoreError> {
        let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        // The connector has its own configuration, which may change; the manager's is not used.
        let pool = Pool::builder(Manager::from_connect(Config::new(), connector.clone(), recycle))
            .max_size(max_connections.max(1))
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(Duration::from_secs(10)))
            .wait_timeout(Some(Duration::from_secs(10)))
            .build()
            .map_err(|e| StoreError::config(format!("the connection pool: {e}")))?;
        Ok(Self { pool, connector, limit: None })
    }

    /// Returns the same pool for a caller with a deadline. A statement outside of a transaction that takes longer than `limit` ends as
    /// [`StoreError::Unavailable`], whether the database carried it out or not. Clones share the limit.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self.clone() }
    }

    /// Reads for an agent's `gather`: one statement on its own, in one round trip. Parameters carry their types, since
    /// nothing is prepared (a transaction-mode pooler would forget it).
    ///
    /// A connection that turns out to have died in the pool is replaced once, so the statement should only read.
    pub async fn query(&self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, StoreError> {
        self.read("a query", sql, parameters).await
    }

    pub(crate) async fn connection(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(StoreError::from_pool)
    }

    /// A statement that may be sent twice: tried again once where the connection had died in the pool.
    pub(crate) async fn read(
        &self,
        operation: &'static str,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, StoreError> {
        match self.send(sql, parameters).await? {
            Err(e) if e.is_closed() => {
                self.send(sql, parameters).await?.map_err(|e| StoreError::from_postgres(operation, e))
            }
            other => other.map_err(|e| StoreError::from_postgres(operation, e)),
        }
    }

    /// A statement that writes: a transaction of its own, sent once.
    pub(crate) async fn write(
        &self,
        operation: &'static str,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, StoreError> {
        self.send(sql, parameters).await?.map_err(|e| StoreError::from_postgres(operation, e))
    }

    async fn send(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Result<Vec<Row>, tokio_postgres::Error>, StoreError> {
        let answered = async {
            let mut borrowed = Borrowed { connection: Some(self.connection().await?), connector: &self.connector };
            let Some(connection) = &borrowed.connection else { return Err(StoreError::bug("send", "no connection")) };
            let answer = connection.query_typed(sql, parameters).await;
            drop(borrowed.connection.take());
            Ok(answer)
        };
        match self.limit {
            None => answered.await,
            Some(limit) => tokio::time::timeout(limit, answered)
                .await
                .map_err(|late| StoreError::unavailable("waiting for an answer", late))?,
        }
    }
}

/// A connection while a statement is under way. It returns to the pool when the statement has ended. A statement that was abandoned at a deadline
/// takes its connection out of the pool, because the next statement would wait behind it, and asks the server to cancel it.
struct Borrowed<'a> {
    connection: Option<Object>,
    connector: &'a Connector,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let Some(abandoned) = self.connection.take() else { return };
        let abandoned = Object::take(abandoned);
        let (token, tls) = (abandoned.cancel_token(), self.connector.tls());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // The connection lives until the server has been asked. That it could not be asked costs its time, and nothing else.
                let asked = match tls {
                    Some(tls) => token.cancel_query(tls).await,
                    None => token.cancel_query(NoTls).await,
                };
                if let Err(error) = asked {
                    tracing::debug!(%error, "an abandoned statement could not be cancelled");
                }
                drop(abandoned);
            });
        }
    }
}
