#![doc = include_str!("../README.md")]

pub mod advise;
pub mod audit;
pub mod backfill;
pub mod breaker;
mod check;
pub mod compare;
pub mod cutover;
pub mod dead_letter;
pub mod delays;
pub mod metrics;
pub mod outbox;
pub mod pass;
pub mod redrive;
pub mod routing;
mod selection;
pub mod status;
pub mod steward;
mod words;

pub use selection::Selection;
