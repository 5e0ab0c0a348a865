#![doc = include_str!("../README.md")]

mod batch;
mod commit;
mod config;
mod database;
mod decide;
pub mod envelope;
mod log;
mod look;
mod outcome;
mod parse;
mod run;
mod serve;

pub use config::{ConfigError, Environment};
pub use database::{Database, Tx};
pub use run::{handle, run_agent};
pub use serve::{Invocation, serve};

/// Typed parameters for [`Tx`] and [`Database`], as tokio-postgres names them.
pub use switchyard_store::{Row, ToSql, Type};

/// A batch of messages and the answer to it, as AWS spells them.
pub use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};

/// The event of an invocation that is not a batch of messages.
pub use serde_json::Value as Json;
