//! Counts what became of every event: sets against sets, once everything has come to rest.

mod facts;
mod judge;
mod verdict;
mod witnessed;

pub use facts::{Delivery, Effects, Facts, Logged, gather};
pub use judge::{DEATHS_TO_PARK, judge};
pub use verdict::{Check, Tally, Verdict};
pub use witnessed::{DeadLetter, Witnessed};
