#![doc = include_str!("../README.md")]

mod append;
mod claim;
mod deploy;
mod error;
mod lease;
mod ledger;
mod migrate;
mod outbox;
mod publish;
mod reconcile;
mod report;
mod store;
mod stream;
mod tx;
mod url;

pub use append::AppendEvent;
pub use claim::{Ask, Settlement, Standing, Verdict};
pub use deploy::{AgentSpec, Mode, Registered, RoutedBy};
pub use error::StoreError;
pub use lease::Lease;
pub use ledger::{Ledger, Missing};
pub use migrate::{Migrated, migrate};
pub use outbox::{Known, Page, Pending};
pub use publish::Publication;
pub use reconcile::{Due, Reassigned, Resent, Retention, Tick};
pub use report::{Failed, ParkReport, Reported, State};
pub use store::Store;
pub use stream::{Child, StreamDelivery, StreamEvent};
pub use tokio_postgres::Row;
pub use tokio_postgres::types::{ToSql, Type};
pub use tx::Tx;
pub use url::DatabaseUrl;
