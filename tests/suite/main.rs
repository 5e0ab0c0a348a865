//! One test binary; each module is a chapter.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by a panic, in its helpers too")]

mod advise;
mod architecture;
mod backfill;
mod bus;
mod compare;
mod delays;
mod express;
mod failures;
mod fifo;
mod fixtures;
mod ingest;
mod install;
mod metrics;
mod migrating;
mod models;
mod one_effect;
mod pages;
mod redrive;
mod rotation;
mod routing;
mod runtime;
mod shim;
mod sizes;
mod steward;
mod store;
mod template;
mod topic;
mod waits;
mod walk;
