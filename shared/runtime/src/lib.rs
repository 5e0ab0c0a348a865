#![doc = include_str!("../README.md")]

mod answers;
mod batch;
mod breaker;
mod budget;
mod bugs;
mod commit;
mod config;
mod database;
pub mod dead_letter;
mod decide;
pub mod envelope;
pub mod lambda;
mod log;
mod message;
mod order;
mod outcome;
mod park;
mod parse;
mod payload;
mod preview;
mod report;
pub mod resend;
mod run;
mod seal;
mod secret;
mod settle;
mod start;
mod step;
mod suspect;
mod upcast;
pub mod wait;
mod worker;

pub use budget::Budget;
pub use config::{ConfigError, Environment};
pub use database::{Database, Tx};
pub use lambda::{Invocation, serve, serve_queue};
pub use log::FIGURES;
pub use message::{Answer, Message};
pub use payload::MAX_PAYLOAD_BYTES;
pub use run::run_agent;
pub use secret::open_store;
pub use start::StartError;
pub use worker::{Worker, handle};

/// Typed parameters for [`Tx`] and [`Database`], as tokio-postgres names them.
pub use switchyard_store::{Row, ToSql, Type};

/// The event of an invocation that is not a batch of messages.
pub use serde_json::Value as Json;
