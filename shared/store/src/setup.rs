//! The setup of a database, its removal, and the registration of agents.

mod catalogue;
mod deploy;
mod direct;
mod domain;
mod history;
mod mapping;
mod migrate;
mod remove;
mod roles;
mod schema;
mod trust;
mod wait_policy;

pub use deploy::{AgentSpec, Registered, RoutedBy, Since};
pub use domain::{Domain, DomainSet, Replace, set_domain};
pub use history::{drop_history_index, index_history};
pub use mapping::{Columns, EventsTable, Mapping, Named};
pub use migrate::{Migrated, migrate, migrate_with};
pub use remove::{Installed, installed, remove};
pub use roles::{APPLICATION, READER, RUNTIME, grant_to_runtime};
pub use wait_policy::{Progress, WaitPolicy};
