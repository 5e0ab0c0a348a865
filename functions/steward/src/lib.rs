#![doc = include_str!("../README.md")]

pub mod advise;
mod answer;
pub mod backfill;
mod clients;
mod clock;
pub mod compare;
pub mod cutover;
mod dead_letters;
pub mod decide;
pub mod delays;
mod fate;
mod inspection;
mod lease;
mod metrics;
mod pass;
mod reconcile;
pub mod routing;
mod settings;

pub use clients::Clients;
pub use pass::Steward;
pub use settings::Limits;

use settings::Settings;
use switchyard_advice::Wishes;
use switchyard_bus::{LambdaDirectory, LambdaMappings, SqsQueue};
use switchyard_operations::{delays::DelaysRequest, steward::Request};
use switchyard_runtime::{Environment, Invocation, Json, StartError, open_store};
use switchyard_store::StoreError;

/// The steward on AWS.
pub type OnAws = Steward<LambdaDirectory, LambdaMappings, SqsQueue>;

/// Reads the configuration and makes the clients, once per process.
///
/// # Errors
/// [`StartError`] for a setting that is missing or wrong.
pub async fn start() -> Result<OnAws, StartError> {
    let environment = Environment;
    let settings = Settings::read(environment)?;
    let aws = switchyard_bus::aws::settings().await;
    let store = open_store(environment, &aws).await?;
    let clients = Clients {
        directory: LambdaDirectory::new(&aws, settings.stack),
        mappings: LambdaMappings::new(&aws),
        queue: Box::new(move |url| SqsQueue::new(&aws, url.to_owned())),
    };
    Ok(Steward::new(store, clients, settings.limits))
}

/// One invocation: answers its request.
///
/// # Errors
/// One line: what is wrong with the request, or what the database said.
pub async fn handle(steward: &OnAws, event: Json, invocation: Invocation) -> Result<Json, String> {
    let deadline = invocation.deadline;
    let (store, ends) = (steward.store(), pass::leaving_a_reserve(deadline));
    match Request::parse(&event)? {
        Request::Pass => json(steward.pass(deadline).await.map_err(|error| error.to_string())?),
        Request::Status => json(steward.status(deadline).await),
        Request::Advise(wishes) => json(advise::advise(store, &wishes, ends).await?),
        Request::Metrics => json(advise::advise(store, &Wishes::default(), ends).await?.metrics),
        Request::Outbox => json(steward.outbox().await.map_err(|error| error.to_string())?),
        Request::RetryPublishing { seqs, operator } => {
            json(steward.retry_publishing(&seqs, &operator).await.map_err(|error| error.to_string())?)
        }
        Request::Breaker { agent, set, operator } => {
            let set = steward.set_breaker(&agent, set, &operator, deadline).await;
            json(set.map_err(|error| error.to_string())?)
        }
        Request::Route(request) => json(or_message(routing::route(store, request, ends).await)?),
        Request::Pin(request) => json(or_message(routing::pin(store, request, ends).await)?),
        Request::Delays(DelaysRequest::Show { which, at_most }) => {
            json(or_message(delays::show(store, &which, at_most).await)?)
        }
        Request::Delays(DelaysRequest::Cancel { events, because, operator }) => {
            json(or_message(delays::cancel(store, &events, &operator, &because).await)?)
        }
        Request::Compare(request) => json(compare::answer(store, *request, ends).await?),
        Request::Cutover(request) => json(or_message(cutover::answer(store, *request, ends).await)?),
        Request::Backfill(request) => json(or_message(backfill::answer(store, *request).await)?),
    }
}

fn or_message<T>(answer: Result<T, StoreError>) -> Result<T, String> {
    answer.map_err(|error| error.to_string())
}

fn json(answer: impl serde::Serialize) -> Result<Json, String> {
    serde_json::to_value(answer).map_err(|error| error.to_string())
}
