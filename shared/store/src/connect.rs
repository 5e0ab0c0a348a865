//! How a connection is made: with the URL of now, and with TLS where the URL asks for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{DatabaseUrl, StoreError};

/// Where the database's URL is kept, for a store that reads it again when the database refuses the login.
pub trait UrlSource: Send + Sync + 'static {
    /// Reads the URL as it is now. An error is for the operator, and names no secret.
    fn read(&self) -> BoxFuture<'_, Result<DatabaseUrl, String>>;
}

/// The source is read no more often than this: while a password is wrong, every connection asks for it.
const BETWEEN_READS: Duration = Duration::from_secs(5);

/// Makes connections. Clones share the URL of now.
#[derive(Clone)]
pub(crate) struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    address: Mutex<Arc<Address>>,
    source: Option<Box<dyn UrlSource>>,
    /// When the source was read last. Held while it is read, so that connections that are refused together read it once.
    read_at: tokio::sync::Mutex<Option<Instant>>,
}

struct Address {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl Address {
    fn of(url: &DatabaseUrl) -> Result<Self, StoreError> {
        Ok(Self { config: url.config(), tls: url.wants_tls().then(|| tls(url)).transpose()? })
    }

    async fn connect(&self) -> Result<(Client, JoinHandle<()>), Error> {
        match &self.tls {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                Ok((client, tokio::spawn(ended(connection))))
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                Ok((client, tokio::spawn(ended(connection))))
            }
        }
    }
}

/// The statement that was under way has the error, too.
async fn ended(connection: impl Future<Output = Result<(), Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the database ended");
    }
}

impl Connector {
    pub(crate) fn new(url: &DatabaseUrl, source: Option<Box<dyn UrlSource>>) -> Result<Self, StoreError> {
        let address = Mutex::new(Arc::new(Address::of(url)?));
        Ok(Self { shared: Arc::new(Shared { address, source, read_at: tokio::sync::Mutex::new(None) }) })
    }

    /// What a connection to the database of now needs, if it wants TLS.
    pub(crate) fn tls(&self) -> Option<MakeRustlsConnect> {
        self.address().tls.clone()
    }

    fn address(&self) -> Arc<Address> {
        Arc::clone(&self.shared.address.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn connected(&self) -> Result<(Client, JoinHandle<()>), Error> {
        let address = self.address();
        let refused = match address.connect().await {
            Err(error) if login_refused(&error) => error,
            other => return other,
        };
        match self.renewed(&address).await {
            Some(address) => address.connect().await,
            None => Err(refused),
        }
    }

    /// The address that replaces one whose login was refused; `None` where there is no other.
    async fn renewed(&self, refused: &Arc<Address>) -> Option<Arc<Address>> {
        let source = self.shared.source.as_ref()?;
        let mut read_at = self.shared.read_at.lock().await;
        let now = self.address();
        if !Arc::ptr_eq(&now, refused) {
            return Some(now);
        }
        if read_at.is_some_and(|at| at.elapsed() < BETWEEN_READS) {
            return None;
        }
        *read_at = Some(Instant::now());
        let read = match source.read().await {
            Ok(url) => Address::of(&url).map_err(|error| error.to_string()),
            Err(problem) => Err(problem),
        };
        match read {
            Ok(address) => {
                tracing::info!("the database refused the login; its URL was read again");
                let address = Arc::new(address);
                *self.shared.address.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&address);
                Some(address)
            }
            Err(problem) => {
                tracing::error!(problem, "the database refused the login, and its URL could not be read again");
                None
            }
        }
    }
}

impl Connect for Connector {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        Box::pin(self.connected())
    }
}

/// Class 28 is "Invalid Authorization Specification" (PostgreSQL documentation, "PostgreSQL Error Codes"). A pooler has its own code for a
/// password that is wrong: pgbouncer answers with a protocol violation.
fn login_refused(error: &Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("28") || code.code() == "08P01")
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
