//! The pool, and the one way in which a statement is sent.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{DatabaseUrl, StoreError};

/// The store: a pool of connections. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    /// For a database with TLS, since cancelling a statement opens a connection too.
    tls: Option<MakeRustlsConnect>,
    /// How long a statement outside of a transaction may take, its connection included.
    limit: Option<Duration>,
}

impl Store {
    /// Opens a store. Does no I/O: an unreachable database shows at the first call.
    ///
    /// Fails with [`StoreError::Config`] if the URL asks for TLS with a root certificate that cannot be read.
    pub fn open(url: &DatabaseUrl, max_connections: usize) -> Result<Self, StoreError> {
        let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let tls = url.wants_tls().then(|| tls(url)).transpose()?;
        let manager = match &tls {
            Some(tls) => Manager::from_config(url.config(), tls.clone(), recycle),
            None => Manager::from_config(url.config(), NoTls, recycle),
        };
        let pool = Pool::builder(manager)
            .max_size(max_connections.max(1))
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(Duration::from_secs(10)))
            .wait_timeout(Some(Duration::from_secs(10)))
            .build()
            .map_err(|e| StoreError::config(format!("the connection pool: {e}")))?;
        Ok(Self { pool, tls, limit: None })
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
            let mut borrowed = Borrowed { connection: Some(self.connection().await?), tls: self.tls.as_ref() };
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
    tls: Option<&'a MakeRustlsConnect>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let Some(abandoned) = self.connection.take() else { return };
        let abandoned = Object::take(abandoned);
        let (token, tls) = (abandoned.cancel_token(), self.tls.cloned());
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

pub(crate) fn tls(url: &DatabaseUrl) -> Result<MakeRustlsConnect, StoreError> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(file) = url.root_certificate_file() {
        let unreadable =
            |e: &dyn std::fmt::Display| StoreError::config(format!("DATABASE_URL: sslrootcert {file}: {e}"));
        for certificate in CertificateDer::pem_file_iter(file).map_err(|e| unreadable(&e))? {
            roots.add(certificate.map_err(|e| unreadable(&e))?).map_err(|e| unreadable(&e))?;
        }
    }
    if let Some(pem) = url.root_certificates() {
        let unreadable =
            |e: &dyn std::fmt::Display| StoreError::config(format!("DATABASE_CA is no certificate in PEM: {e}"));
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.map_err(|e| unreadable(&e))?).map_err(|e| unreadable(&e))?;
        }
        if roots.len() == before {
            return Err(unreadable(&"it contains none"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| StoreError::config(format!("TLS: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
