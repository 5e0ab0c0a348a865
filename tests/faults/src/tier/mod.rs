//! The tiers: which runs there are, and how they are put together.

pub mod bugs;
pub mod localstack;
pub mod scenarios;
pub mod short_runs;
pub mod storm;

use std::fmt;

/// Where a tier says how far it is.
pub type Tell<'a> = &'a (dyn Fn(fmt::Arguments<'_>) + Sync);
