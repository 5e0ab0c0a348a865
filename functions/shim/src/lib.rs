#![doc = include_str!("../README.md")]

mod carry;
mod lease;
mod plan;
mod settings;
mod signature;
mod webhook;
mod work;

pub use carry::{Carried, Carrier, Woken};
pub use plan::Plan;
pub use settings::{Settings, Times};
pub use signature::{Secrets, TOLERANCE_SECS, Unsigned};
pub use webhook::{Request, Response};

use jiff::Timestamp;
use serde::Serialize;
use switchyard_bus::SnsTopic;
use switchyard_runtime::{Environment, Invocation, Json, StartError};
use switchyard_store::Store;

/// The function, made once per process.
pub struct Shim {
    carrier: Carrier<SnsTopic>,
    secrets: Option<Secrets>,
}

/// The answer to an invocation.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To the schedule, or to a person.
    Carried(Carried),
    /// To a webhook.
    Response(Response),
}

/// Reads the configuration and makes the clients, once per process.
///
/// # Errors
/// [`StartError`] for a setting that is missing or wrong.
pub async fn start() -> Result<Shim, StartError> {
    let environment = Environment;
    let settings = Settings::read(environment)?;
    let secrets = settings::webhook_secrets(environment)?;
    let url = environment.database()?;
    let topic = SnsTopic::new(&switchyard_bus::aws::settings().await, settings.topic_arn.clone());
    Ok(Shim { carrier: Carrier::new(Store::open(&url, settings.connections)?, topic, settings), secrets })
}

/// One invocation: by the schedule it carries until its time is up or, where it is not resident, until nothing is pending; by a webhook it
/// carries what is pending, unless somebody is at work.
///
/// # Errors
/// What the database said to the schedule, where it could not be asked. What was published by then is published.
pub async fn handle(shim: &Shim, event: Json, invocation: Invocation) -> Result<Answer, String> {
    let request = match Request::of(&event) {
        Ok(request) => request,
        Err(unreadable) => return Ok(Answer::Response(unreadable)),
    };
    let Some(request) = request else {
        return shim.carrier.carry(invocation.deadline).await.map(Answer::Carried).map_err(|error| error.to_string());
    };
    if let Err(refused) = request.admit(shim.secrets.as_ref(), Timestamp::now().as_second()) {
        return Ok(Answer::Response(refused));
    }
    Ok(Answer::Response(match shim.carrier.wake(invocation.deadline).await {
        Ok(woken) => Response::of(&woken),
        Err(error) => {
            tracing::error!(%error, "woken, and the database does not answer");
            Response::unavailable()
        }
    }))
}
