//! Shadow comparison: what agents in shadow mode decided against what the old system did. Each pass compares the decisions whose wait is
//! over ([`advance`]), a few window by window, and counts what came of them; a request shows it, or sets with what an agent is compared.
//!
//! Values are payload: they are read again on request, and only that answer has them.

mod advance;
mod report;
mod weigh;

pub use advance::advance;
pub use report::answer;
