//! One test binary; each module is a chapter.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by a panic, in its helpers too")]

mod architecture;
mod bus;
mod failures;
mod ingest;
mod once;
mod redrive;
mod runtime;
mod shim;
mod sizes;
mod steward;
mod store;
mod template;
mod topic;
mod walk;
