//! Backfill: what happened before an agent listened comes to it once, in order, and in nobody's way.

mod deployed;
mod history;
mod ledger;
mod orders;
mod passes;
mod world;
