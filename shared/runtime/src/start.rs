//! Starting a process: why it could not, and the runtime that it runs on.

use crate::config::ConfigError;
use std::{future::Future, process::ExitCode};
use switchyard_bus::BusError;
use switchyard_store::StoreError;
use thiserror::Error;

/// Why a function could not start or go on. One type for all of them.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database's connection string is wrong.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(BusError),
    /// The loop that receives invocations ended.
    #[error("the Lambda runtime ended: {0}")]
    Lambda(String),
}

/// Runs to the end on this thread. An error is one line, for the init phase's log.
pub(crate) fn block_on(function: impl Future<Output = Result<(), StartError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_error(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(function) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("cannot start: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "one line for the person who started the function: there is no log yet")]
pub(crate) fn print_error(line: &str) {
    eprintln!("{line}");
}
