#![doc = include_str!("../README.md")]

mod lease;
mod plan;
mod publish;
mod settings;
mod signature;
mod webhook;
mod webhook_secret;
mod work;

pub use plan::Plan;
pub use publish::{Publisher, Report, Woken};
pub use settings::{Settings, Times};
pub use signature::{Secrets, TOLERANCE_SECS, Unsigned};
pub use webhook::{Request, Response};

use jiff::Timestamp;
use serde::Serialize;
use switchyard_bus::SnsTopic;
use switchyard_runtime::{Environment, Invocation, Json, StartError, open_store};
use webhook_secret::WebhookSecret;

/// The words that the shim logs for each event that it gives up; an alarm of the template counts them.
pub const COULD_NOT_BE_PUBLISHED: &str = "an event could not be published";

/// The function, made once per process.
pub struct Shim {
    publisher: Publisher<SnsTopic>,
    webhook: Option<WebhookSecret>,
}

/// The answer to an invocation.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To the schedule, or to a person.
    Published(Report),
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
    let aws = switchyard_bus::aws::settings().await;
    let webhook = WebhookSecret::open(environment, &aws).await?;
    let store = open_store(environment, &aws).await?;
    let topic = SnsTopic::new(&aws, settings.topic_arn.clone());
    Ok(Shim { publisher: Publisher::new(store, topic, settings), webhook })
}

/// One invocation. Invoked by the schedule, it publishes until its time is up or, if it is not resident, until nothing is pending; by a webhook, it
/// publishes what is pending, unless a shim runs already.
///
/// # Errors
/// The database's error, to the schedule. What was published by then is published.
pub async fn handle(shim: &Shim, event: Json, invocation: Invocation) -> Result<Answer, String> {
    let request = match Request::of(&event) {
        Ok(request) => request,
        Err(unreadable) => return Ok(Answer::Response(unreadable)),
    };
    let Some(request) = request else {
        return shim
            .publisher
            .publish(invocation.deadline)
            .await
            .map(Answer::Published)
            .map_err(|error| error.to_string());
    };
    let now = Timestamp::now().as_second();
    let admitted = match &shim.webhook {
        Some(secret) => secret.admit(&request, now).await,
        None => request.admit(None, now),
    };
    if let Err(refused) = admitted {
        return Ok(Answer::Response(refused));
    }
    Ok(Answer::Response(match shim.publisher.wake(invocation.deadline).await {
        Ok(woken) => Response::of(&woken),
        Err(error) => {
            tracing::error!(%error, "woken, and the database does not answer");
            Response::unavailable()
        }
    }))
}
