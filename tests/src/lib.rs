#![doc = include_str!("../README.md")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "this crate is tests: a harness that cannot go on says so by a panic"
)]

pub mod checker;
pub mod contract;
pub mod database;
mod eventually;
pub mod pooler;
pub mod program;
pub mod servers;
pub mod versions;
mod world;

pub use database::{Database, admin_url};
pub use eventually::eventually;
pub use servers::Servers;
pub use world::{Account, Tap, World};
