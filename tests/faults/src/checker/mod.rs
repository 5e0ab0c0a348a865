//! Counts what became of every event: sets against sets, once everything has come to rest.

mod facts;
mod judge;
mod verdict;

pub use facts::{Delivery, Effects, Facts, Logged, gather};
pub use judge::judge;
pub use verdict::{Check, Tally, Verdict};
