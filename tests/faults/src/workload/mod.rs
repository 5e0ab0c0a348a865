//! The application: writers that commit events, roll some back, and sometimes never learn which of the two it was.

mod intents;
mod writer;

pub use intents::{Intents, Outcome};
pub use writer::{SHARED, VERSION_OF_TOMORROW, Workload, write};
