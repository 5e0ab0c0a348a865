#![doc = include_str!("../README.md")]
#![allow(clippy::expect_used, reason = "this crate is a test: a program that cannot go on says so by a panic")]

mod plan;
mod sides;
mod write;

pub use plan::{Counts, Expected, Plan, Story, Unmatched};
pub use write::write;

/// The mapping that both sides are made for, as a team would write it.
pub const MAPPING: &str = include_str!("../mapping.toml");
