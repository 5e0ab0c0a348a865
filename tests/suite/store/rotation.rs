//! The login to the database is rotated while a store is open.

use futures_util::future::BoxFuture;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use switchyard_store::{DatabaseUrl, Store, StoreError, UrlSource};
use switchyard_tests::Database;
use tokio_postgres::Client;

/// A secret that a test changes.
#[derive(Clone)]
struct Secret {
    url: Arc<Mutex<String>>,
    reads: Arc<AtomicU32>,
}

impl UrlSource for Secret {
    fn read(&self) -> BoxFuture<'_, Result<DatabaseUrl, String>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let url = self.url.lock().unwrap().parse().map_err(|error: StoreError| error.to_string());
        Box::pin(async { url })
    }
}

/// A database with two logins, and a store that has the first.
struct Rotation {
    database: Database,
    admin: Client,
    before: String,
    after: String,
    secret: Secret,
    store: Store,
}

impl Rotation {
    async fn new() -> Self {
        let database = Database::empty().await;
        let admin = database.connect().await;
        let name = database.url().rsplit('/').next().unwrap().to_owned();
        let (before, after) = (format!("{name}_before"), format!("{name}_after"));
        admin.batch_execute(&format!("create role {before} login; create role {after} login")).await.unwrap();
        let url = as_role(&database, &before);
        let secret = Secret { url: Arc::new(Mutex::new(url.clone())), reads: Arc::default() };
        let store = Store::open_from(&url.parse().unwrap(), secret.clone(), 2).unwrap();
        Self { database, admin, before, after, secret, store }
    }

    async fn user(&self) -> Result<String, StoreError> {
        let rows = self.store.query("select current_user::text", &[]).await?;
        Ok(rows[0].get(0))
    }

    /// The first login is refused from now on, and its connections end.
    async fn revoke(&self) {
        let revoke = format!(
            "alter role {0} nologin; select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = '{0}'",
            self.before
        );
        self.admin.batch_execute(&revoke).await.unwrap();
    }

    async fn end(self) {
        drop(self.store);
        let drop = format!(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = '{0}';
             drop role {0}; drop role {1}",
            self.after, self.before
        );
        self.admin.batch_execute(&drop).await.unwrap();
    }
}

fn as_role(database: &Database, role: &str) -> String {
    let url = database.url();
    let (_, host) = url.split_once('@').unwrap();
    format!("postgresql://{role}@{host}")
}

#[tokio::test]
async fn a_store_whose_login_is_refused_reads_its_url_again() {
    let rotation = Rotation::new().await;
    assert_eq!(rotation.user().await.unwrap(), rotation.before);
    *rotation.secret.url.lock().unwrap() = as_role(&rotation.database, &rotation.after);
    assert_eq!(rotation.user().await.unwrap(), rotation.before, "an open connection stays open");
    rotation.revoke().await;
    assert_eq!(rotation.user().await.unwrap(), rotation.after);
    assert_eq!(rotation.secret.reads.load(Ordering::Relaxed), 1);
    rotation.end().await;
}

#[tokio::test]
async fn while_the_secret_holds_a_login_that_is_refused_it_is_not_read_for_each_connection() {
    let rotation = Rotation::new().await;
    rotation.revoke().await;
    for _ in 0..3 {
        assert!(matches!(rotation.user().await, Err(StoreError::Config { .. })));
    }
    assert_eq!(rotation.secret.reads.load(Ordering::Relaxed), 1);
    rotation.end().await;
}
