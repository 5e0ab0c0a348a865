#![doc = include_str!("../README.md")]

pub mod bootstraps;
pub mod cargo;
pub mod error;
pub mod guard;
pub mod localstack;
pub mod places;
pub mod ports;
pub mod postgres;
pub mod progress;
pub mod python;

pub use error::Error;
pub use places::Places;
pub use ports::Port;
