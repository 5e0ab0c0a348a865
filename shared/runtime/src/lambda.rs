//! AWS Lambda: its loop of invocations, and its batches of SQS messages. The one module that knows `lambda_runtime` and `aws_lambda_events`.

use crate::{
    log,
    message::{Answer, Message},
    start::{StartError, block_on},
};
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use lambda_runtime::{LambdaEvent, service_fn};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use switchyard_bus::Kind;
use tokio::time::Instant;

/// What a handler knows of its invocation.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// When Lambda ends it, whatever it is doing.
    pub deadline: Instant,
    /// Lambda's id for it.
    pub request_id: String,
}

/// Runs a function that is not an agent: `start` reads the configuration and makes the clients, once; `handle` answers each invocation.
///
/// What `start` returns as an error ends the process with that line; what `handle` returns as an error is the invocation's error.
pub fn serve<S, R, H>(start: impl AsyncFnOnce() -> Result<S, StartError>, handle: H) -> ExitCode
where
    R: Serialize,
    H: AsyncFn(&S, serde_json::Value, Invocation) -> Result<R, String>,
{
    block_on(async {
        log::start();
        let state = start().await?;
        invocations(async |event, invocation| handle(&state, event, invocation).await).await
    })
}

/// Runs a function that receives messages from a queue: as [`serve`], with one answer for each message of a batch, in their order.
pub fn serve_queue<S, H>(start: impl AsyncFnOnce() -> Result<S, StartError>, handle: H) -> ExitCode
where
    H: AsyncFn(&S, Vec<Message>, Invocation) -> Vec<Answer>,
{
    block_on(async {
        log::start();
        let state = start().await?;
        batches(async |messages, invocation| handle(&state, messages, invocation).await).await
    })
}

/// The messages of an invocation's event, as AWS spells a batch of SQS.
///
/// # Errors
/// Where the event is something else.
pub fn messages(event: serde_json::Value) -> Result<Vec<Message>, serde_json::Error> {
    Ok(serde_json::from_value::<SqsEvent>(event)?.records.into_iter().map(Message::from).collect())
}

/// Answers batches of SQS messages until Lambda ends the process.
pub(crate) async fn batches(handle: impl AsyncFn(Vec<Message>, Invocation) -> Vec<Answer>) -> Result<(), StartError> {
    invocations(async |event: SqsEvent, invocation| {
        let messages: Vec<Message> = event.records.into_iter().map(Message::from).collect();
        let ids: Vec<String> = messages.iter().map(|message| message.id.clone()).collect();
        let answers = handle(messages, invocation).await;
        // An answer of null means to Lambda that all went well; `Some` is what this always is outside of the fault suite.
        Ok((!switchyard_faults::bug("null_response")).then(|| response(ids, &answers)))
    })
    .await
}

/// Exactly the messages that must be delivered again: Lambda deletes what the response does not name. A message without an answer is named.
fn response(ids: Vec<String>, answers: &[Answer]) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    for (at, id) in ids.into_iter().enumerate() {
        if answers.get(at).is_none_or(|answer| answer.is_redelivery()) {
            response.add_failure(id);
        }
    }
    response
}

impl From<SqsMessage> for Message {
    fn from(message: SqsMessage) -> Self {
        let is_ordered = message.event_source_arn.as_deref().is_some_and(|queue| Kind::of(queue).is_fifo());
        let attributes = message.message_attributes.into_iter();
        Self {
            queue: message.event_source_arn,
            // A standard queue has message groups, too, and they order nothing.
            group: message.attributes.get("MessageGroupId").filter(|_| is_ordered).cloned(),
            receives: message.attributes.get("ApproximateReceiveCount").and_then(|n| n.parse().ok()).unwrap_or(1),
            attributes: attributes.filter_map(|(name, value)| Some((name, value.string_value?))).collect(),
            id: message.message_id.unwrap_or_default(),
            receipt: message.receipt_handle.unwrap_or_default(),
            body: message.body.unwrap_or_default(),
        }
    }
}

/// Handles invocations until Lambda ends the process.
async fn invocations<E, R, H>(handle: H) -> Result<(), StartError>
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn received(record: serde_json::Value) -> Message {
        messages(serde_json::json!({ "Records": [record] })).unwrap().remove(0)
    }

    #[test]
    fn a_message_has_what_sqs_says_of_it() {
        let message = received(serde_json::json!({ "messageId": "m", "receiptHandle": "r", "body": "b",
            "attributes": { "ApproximateReceiveCount": "7" },
            "messageAttributes": { "run": { "stringValue": "12", "dataType": "Number" },
                                   "blob": { "binaryValue": "AA==", "dataType": "Binary" } } }));
        let attributes = [("run".to_owned(), "12".to_owned())].into();
        assert_eq!(message, Message { receives: 7, attributes, ..Message::new("m", "r", "b") });
    }

    #[test]
    fn a_message_group_orders_on_a_queue_of_fifo_and_nowhere_else() {
        let group_on = |queue: &str| {
            let arn = format!("arn:aws:sqs:eu-west-1:000000000000:{queue}");
            received(serde_json::json!({ "messageId": "m", "body": "b", "eventSourceARN": arn,
                "attributes": { "MessageGroupId": "g" }, "messageAttributes": {} }))
            .group
        };
        assert_eq!((group_on("a-Queue.fifo"), group_on("a-Queue")), (Some("g".to_owned()), None));
    }

    #[test]
    fn what_is_no_batch_is_an_error() {
        assert!(messages(serde_json::json!({ "Records": 7 })).is_err());
    }

    proptest! {
        #[test]
        fn the_response_names_every_message_that_is_not_known_to_be_settled(answers in prop::collection::vec(any::<bool>(), 0..10), more in 0usize..3) {
            let settled: Vec<Answer> = answers
                .iter()
                .map(|settled| if *settled { Answer::Acknowledge } else { Answer::Redeliver { after: None } })
                .collect();
            let ids: Vec<String> = (0..answers.len() + more).map(|n| n.to_string()).collect();
            let named: Vec<String> =
                response(ids.clone(), &settled).batch_item_failures.into_iter().map(|one| one.item_identifier).collect();
            let expected: Vec<String> =
                ids.into_iter().enumerate().filter(|(at, _)| !answers.get(*at).copied().unwrap_or(false)).map(|(_, id)| id).collect();
            prop_assert_eq!(named, expected);
        }
    }
}
