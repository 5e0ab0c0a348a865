//! A database of its own, in which one seed after another runs.

use switchyard_store::Store;
use tokio_postgres::Client;

use super::plants::Plant;
use crate::database::Database;

/// Two agents; a store each way; a connection for the judge.
pub(super) struct Worker {
    pub(super) direct: Store,
    pub(super) pooled: Store,
    pub(super) judge: Client,
    // Last, so that it is dropped after the connections.
    _database: Database,
}

impl Worker {
    pub(super) async fn open(plant: Option<&'static Plant>) -> Self {
        let database = Database::migrated().await;
        let judge = database.connect().await;
        judge.batch_execute(include_str!("checker.sql")).await.expect("the checker's tables");
        if let Some(plant) = plant {
            plant.apply(&judge).await;
        }
        // One pool for all actors of a seed: they come and go as in production.
        let open = |url: String| Store::open(&url.parse().expect("an address"), 24).expect("a store");
        Self { direct: open(database.url()), pooled: open(database.pooled_url().await), judge, _database: database }
    }
}
