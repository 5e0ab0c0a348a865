//! What the store promises, as sentences, against a real Postgres. What the ledger promises is told twice: directly, and
//! through a real pgbouncer in transaction mode.

pub(crate) mod world;

mod as_on_supabase;
mod boundary;
mod breakers;
mod chains;
mod checker;
mod claim_guard;
mod claiming;
mod cutover;
mod definers;
mod delays;
mod domain_events;
mod event_log;
mod ingesting;
mod large_rows;
mod late_subscribers;
mod leases;
mod migrations;
mod plans;
mod publishing;
mod reconciling;
mod redriving;
mod released;
mod replacing;
mod replays;
mod reporting;
mod resending;
mod retention;
mod returning;
mod revising;
mod roles;
mod rotation;
mod routing;
mod selecting;
mod stream;
mod suspects;
mod time_limits;
mod transactions;
mod unpublishable;
mod words;

/// Tells each test twice: directly and through the pooler.
macro_rules! directly_and_pooled {
    ($(async fn $name:ident($world:ident: LedgerWorld) $body:block)*) => {
        $(async fn $name($world: crate::store::world::LedgerWorld) $body)*
        mod directly {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::store::world::LedgerWorld::direct().await).await;
            })*
        }
        mod through_the_pooler {
            $(#[tokio::test]
            async fn $name() {
                if switchyard_tests::pooler::Pooler::is_installed() {
                    super::$name(crate::store::world::LedgerWorld::pooled().await).await;
                }
            })*
        }
    };
}
pub(crate) use directly_and_pooled;
