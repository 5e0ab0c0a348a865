#![doc = include_str!("../README.md")]

mod judge;
mod kind;
mod mapping;
mod path;
mod read;
mod select;
mod slot;
mod span;

pub use judge::{Difference, Finding, Heard, Outcome, judge};
pub use kind::{Kind, Tolerance};
pub use mapping::{Answer, By, Condition, Field, KeyPart, Mapping, Ours, Source, Theirs, What};
pub use path::Path;
pub use read::Wrong;
pub use slot::{COMMITS_US, Found, Slot, end_of_wait, heard, slot};
pub use span::Span;
