//! Backfill: an agent receives the events from before it subscribed once, in order, and live events do not wait.

mod deployed;
mod history;
mod ledger;
mod orders;
mod passes;
mod world;
