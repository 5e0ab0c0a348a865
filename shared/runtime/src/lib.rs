#![doc = include_str!("../README.md")]

mod batch;
mod breaker;
mod budget;
mod commit;
mod config;
mod database;
pub mod dead_letter;
mod decide;
pub mod envelope;
mod log;
mod look;
mod mistakes;
mod order;
mod outcome;
mod parse;
mod payload;
pub mod resend;
mod run;
mod serve;
mod settle;
mod suspect;
mod upcast;
pub mod wait;

pub use budget::Budget;
pub use config::{ConfigError, Environment};
pub use database::{Database, Tx};
pub use log::FIGURES;
pub use payload::MAX_PAYLOAD_BYTES;
pub use run::{Worker, handle, run_agent};
pub use serve::{Invocation, serve};

/// Typed parameters for [`Tx`] and [`Database`], as tokio-postgres names them.
pub use switchyard_store::{Row, ToSql, Type};

/// A batch of messages and the answer to it, as AWS spells them.
pub use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage, SqsMessageAttribute};

/// The event of an invocation that is not a batch of messages.
pub use serde_json::Value as Json;
