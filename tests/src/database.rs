//! A Postgres for tests, and fresh databases in it.

use std::sync::atomic::{AtomicU32, Ordering};

use switchyard_store::{
    DatabaseUrl, Domain, DomainSet, Replace, Store, StoreError, WaitPolicy, grant_to_runtime, migrate, set_domain,
};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls};

use crate::pooler::Pooler;

/// Where the tests' Postgres is: an address with the right to create databases. `SWITCHYARD_TEST_DATABASE_URL` names another
/// one than the servers's own, for trying other versions.
pub fn admin_url() -> String {
    std::env::var("SWITCHYARD_TEST_DATABASE_URL").unwrap_or_else(|_| crate::servers::server().admin_url())
}

/// Sets a database up for the sample domain.
///
/// # Errors
/// As `migrate` and `set_domain`.
pub async fn set_up(url: &DatabaseUrl) -> Result<DomainSet, StoreError> {
    migrate(url).await?;
    grant_to_runtime(url, switchyard_feedback::AGENTS_RIGHTS).await?;
    set_domain(url, &Domain::parse(switchyard_feedback::DOMAIN)?, Replace::Any, &WaitPolicy::default()).await
}

/// A database of its own, dropped when it goes out of scope.
pub struct Database {
    name: String,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);
static TEMPLATE: OnceCell<String> = OnceCell::const_new();

impl Database {
    /// An empty database.
    pub async fn empty() -> Self {
        Self::create("template1").await
    }

    /// A database that is set up for the sample domain, whose tables it does not have yet.
    pub async fn migrated() -> Self {
        let template = TEMPLATE
            .get_or_init(|| async {
                let template = Self::create("template1").await;
                set_up(&template.url().parse().unwrap()).await.unwrap();
                // Kept for the life of this process; the next run of the same process id replaces it.
                let name = template.name.clone();
                std::mem::forget(template);
                name
            })
            .await;
        Self::create(template).await
    }

    async fn create(template: &str) -> Self {
        let name = format!("switchyard_test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let admin = connect(&admin_url()).await;
        admin.batch_execute(&format!("drop database if exists {name} with (force)")).await.unwrap();
        // Copying a template that another copy is being made of is refused for a moment.
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            match admin.batch_execute(&format!("create database {name} template {template}")).await {
                Ok(()) => return Self { name },
                Err(e) if e.code().is_some_and(|c| c.code() == "55006") && tokio::time::Instant::now() < deadline => {}
                Err(e) => panic!("a test's database: {e:?}"),
            }
        }
    }

    /// Its address.
    pub fn url(&self) -> String {
        address(&admin_url(), &self.name, None)
    }

    /// Its address through a real pgbouncer in transaction mode.
    pub async fn pooled_url(&self) -> String {
        address(&admin_url(), &self.name, Some(Pooler::shared(&admin_url()).await.port()))
    }

    /// A store on it.
    pub fn store(&self) -> Store {
        open(&self.url())
    }

    /// A store on it through the pooler.
    pub async fn pooled_store(&self) -> Store {
        open(&self.pooled_url().await)
    }

    /// A plain connection.
    pub async fn connect(&self) -> Client {
        connect(&self.url()).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A runtime of its own: this one may be ending.
        let name = self.name.clone();
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let admin = connect(&admin_url()).await;
                let _ = admin.batch_execute(&format!("drop database if exists {name} with (force)")).await;
            });
        })
        .join();
    }
}

/// A connection that lives as long as its client.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection to the tests' Postgres");
    tokio::spawn(connection);
    client
}

fn open(url: &str) -> Store {
    Store::open(&url.parse::<DatabaseUrl>().unwrap(), 8).unwrap()
}

fn address(admin: &str, database: &str, port: Option<u16>) -> String {
    let (host, admin_port, user) = server(admin);
    format!("postgresql://{user}@{host}:{}/{database}", port.unwrap_or(admin_port))
}

/// Host, port and user of an address.
pub(crate) fn server(url: &str) -> (String, u16, String) {
    let config: Config = url.parse().expect("SWITCHYARD_TEST_DATABASE_URL is no Postgres address");
    let host = match config.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
        _ => "127.0.0.1".into(),
    };
    (host, config.get_ports().first().copied().unwrap_or(5432), config.get_user().unwrap_or("postgres").to_owned())
}
