#![doc = include_str!("../README.md")]

pub mod absent;
pub mod agents;
mod backends;
pub mod broker;
pub mod chaos;
pub mod checker;
mod error;
pub mod fuzz;
pub mod host;
pub mod http;
mod old_system;
mod outside;
pub mod programs;
pub mod report;
pub mod server;
pub mod short;
pub mod tier;
pub mod workload;
pub mod world;

pub use error::Error;
