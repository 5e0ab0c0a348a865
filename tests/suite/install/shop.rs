//! A database of another team: its events are in a table of its own making.

use switchyard_store::{
    AgentSpec, EventsTable, Known, Migrated, Mode, Page, Pending, RoutedBy, Since, Store, StoreError, Type, WaitPolicy,
    migrate_with,
};
use switchyard_tests::database::Database;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

/// The agent of this shop.
pub(super) const AGENT: &str = "packer";

/// A table that has all that ours has, under other names and of other types.
pub(super) const FULL: &str = r#"create schema shop;
    create table shop."Order Events" ("event id" uuid primary key, kind varchar(50) not null, "of" text, subject bigint, body json, about jsonb,
      revision smallint, happened timestamp default now(), tenant text not null default 'main');
    create index on shop."Order Events" (happened, "event id")"#;

pub(super) const FULL_MAPPING: &str = r#"{"schema": "shop", "table": "Order Events", "columns": {"id": "event id", "type": "kind",
    "aggregate_type": "of", "aggregate_id": "subject", "payload": "body", "metadata": "about", "version": "revision", "created_at": "happened"}}"#;

/// A table with the four required columns, and a key of its own.
pub(super) const BARE: &str = r#"create schema shop;
    create table shop.log (n bigint generated always as identity primary key, id uuid not null unique, kind text, subject bigint, body jsonb)"#;

pub(super) const BARE_MAPPING: &str = r#"{"schema": "shop", "table": "log",
    "columns": {"type": "kind", "aggregate_id": "subject", "payload": "body"}}"#;

/// Its database, ready, with one agent that listens to `order.placed`.
pub(super) struct Shop {
    pub(super) store: Store,
    pub(super) side: Client,
    insert: &'static str,
    pub(super) events: &'static str,
    // Last, so that it is dropped after the connections.
    pub(super) database: Database,
}

impl Shop {
    pub(super) async fn full() -> Self {
        let insert = r#"insert into shop."Order Events" ("event id", kind, "of", subject, body) values ($1, $2, 'order', $3, $4::text::json)"#;
        Self::on(FULL, FULL_MAPPING, r#"shop."Order Events""#, insert).await
    }

    pub(super) async fn bare() -> Self {
        let insert = "insert into shop.log (id, kind, subject, body) values ($1, $2, $3, $4::text::jsonb)";
        Self::on(BARE, BARE_MAPPING, "shop.log", insert).await
    }

    async fn on(tables: &str, mapping: &str, events: &'static str, insert: &'static str) -> Self {
        let (database, side) = empty(tables).await;
        install(&database, mapping).await.unwrap();
        let store = database.store();
        let spec = AgentSpec {
            name: AGENT.into(),
            subscribes: vec!["order.placed".into()],
            routed_by: RoutedBy::Aggregate,
            max_attempts: 4,
        };
        store.register(&spec, Mode::Full, Since::Now).await.unwrap();
        Self { store, side, insert, events, database }
    }

    /// The application inserts an event, as it always has.
    pub(super) async fn event(&self, subject: i64, body: &str) -> Uuid {
        let id = Uuid::new_v4();
        self.side
            .query_typed(
                self.insert,
                &[(&id, Type::UUID), (&"order.placed", Type::TEXT), (&subject, Type::INT8), (&body, Type::TEXT)],
            )
            .await
            .unwrap();
        id
    }

    pub(super) async fn pending(&self) -> Vec<Pending> {
        self.store.pending(&Known::default(), Page::of(100)).await.unwrap()
    }

    /// Another plain connection.
    pub(super) async fn client(&self) -> Client {
        self.database.connect().await
    }

    pub(super) async fn one(&self, sql: &str) -> Row {
        self.side.query_one(sql, &[]).await.unwrap()
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        self.one(&format!("select ({sql})::bigint")).await.get(0)
    }
}

/// A database with these tables, and nothing of ours.
pub(super) async fn empty(tables: &str) -> (Database, Client) {
    let database = Database::empty().await;
    let side = database.connect().await;
    side.batch_execute(tables).await.unwrap();
    (database, side)
}

pub(super) async fn install(database: &Database, mapping: &str) -> Result<Migrated, StoreError> {
    let events = EventsTable::parse(mapping)?;
    migrate_with(&database.url().parse().unwrap(), Some(&events), &WaitPolicy::default()).await
}
