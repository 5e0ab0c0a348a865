//! The Lambda runtime loop, for agents and for the functions that are not agents.

use crate::{config::ConfigError, log, run::eprintln_line};
use lambda_runtime::{LambdaEvent, service_fn};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    future::Future,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use switchyard_store::StoreError;
use thiserror::Error;
use tokio::time::Instant;

/// What a handler knows of its invocation.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// When Lambda ends it, whatever it is doing.
    pub deadline: Instant,
    /// Lambda's id for it.
    pub request_id: String,
}

/// Why a function could not start or go on.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the Lambda runtime ended: {0}")]
    Lambda(String),
    #[error("{0}")]
    Other(String),
}

/// Runs a function that is not an agent: `start` reads the configuration and makes the clients, once; `handle` answers each invocation.
///
/// What `start` returns as an error ends the process with that line; what `handle` returns as an error is the invocation's error.
pub fn serve<S, E, R, H>(start: impl AsyncFnOnce() -> Result<S, E>, handle: H) -> ExitCode
where
    E: std::error::Error,
    R: Serialize,
    H: AsyncFn(&S, serde_json::Value, Invocation) -> Result<R, String>,
{
    block_on(async {
        log::start();
        let state = start().await.map_err(|error| StartError::Other(error.to_string()))?;
        serve_with(async |event, invocation| handle(&state, event, invocation).await).await
    })
}

pub(crate) async fn serve_with<E, R, H>(handle: H) -> Result<(), StartError>
where
    E: DeserializeOwned,
    R: Serialize,
    H: AsyncFn(E, Invocation) -> Result<R, String>,
{
    let service = service_fn(|event: LambdaEvent<E>| {
        let invocation =
            Invocation { deadline: instant_of(event.context.deadline), request_id: event.context.request_id };
        let answer = handle(event.payload, invocation);
        async { answer.await.map_err(lambda_runtime::Error::from) }
    });
    lambda_runtime::run(service).await.map_err(|error| StartError::Lambda(error.to_string()))
}

/// Lambda gives the deadline as a date, in milliseconds.
fn instant_of(deadline_ms: u64) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant::now() + Duration::from_millis(deadline_ms).saturating_sub(now)
}

/// Runs to the end on this thread. An error is one line, for the init phase's log.
pub(crate) fn block_on(function: impl Future<Output = Result<(), StartError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln_line(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(function) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln_line(&format!("cannot start: {error}"));
            ExitCode::FAILURE
        }
    }
}
