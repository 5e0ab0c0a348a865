#![doc = include_str!("../README.md")]

mod carry;
mod lease;
mod plan;
mod settings;
mod work;

pub use carry::{Carried, Carrier};
pub use plan::{Plan, Waiting};
pub use settings::{Settings, StartError};

use switchyard_bus::SnsTopic;
use switchyard_runtime::{Environment, Invocation};
use switchyard_store::Store;

/// Reads the configuration and makes the clients, once per process.
///
/// # Errors
/// [`StartError`] for a setting that is missing or wrong.
pub async fn start() -> Result<Carrier<SnsTopic>, StartError> {
    let environment = Environment;
    let settings = Settings::read(environment)?;
    let url = environment.database()?;
    let topic = SnsTopic::new(&switchyard_bus::aws::settings().await, settings.topic_arn.clone());
    Ok(Carrier::new(Store::open(&url, settings.connections)?, topic, settings))
}

/// One invocation: carries until its time is up or, where it is not resident, until nothing is pending.
///
/// # Errors
/// What the database said, where it could not be asked. What was published by then is published.
pub async fn handle(
    carrier: &Carrier<SnsTopic>,
    _: switchyard_runtime::Json,
    invocation: Invocation,
) -> Result<Carried, String> {
    carrier.carry(invocation.deadline).await.map_err(|error| error.to_string())
}
