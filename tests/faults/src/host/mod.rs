//! Plays Lambda: real bootstraps as processes behind a Runtime API, event source mappings that feed them, and schedules that start them.

mod function;
mod instance;
mod mapping;
mod schedule;
mod verdict;

pub use function::{Counts, Ended, Function, Settings};
pub use mapping::Mapping;
pub use schedule::schedule;
