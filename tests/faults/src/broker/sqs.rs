//! The queues' side, in AWS JSON 1.0.

use super::{
    Attributes, NEVER, Received, Shared, State, moves, name_of,
    queue::{Queue, Sent},
    queue_arn,
};
use crate::http::{self, Answer, Cut};
use hyper::{StatusCode, header::HeaderValue};
use serde_json::{Map, Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// What a call may hold, attributes included (Amazon SQS Developer Guide, "Amazon SQS message quotas").
const MAX_BYTES: usize = 1024 * 1024;

/// An error as SQS spells it: its shape, and its older name in a header, which clients go by.
type Fault = (&'static str, &'static str);

const NO_QUEUE: Fault = ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue");
const TOO_MANY: Fault = ("TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest");
const TOO_LONG: Fault = ("BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong");
const EMPTY: Fault = ("EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest");
const THROTTLED: Fault = ("RequestThrottled", "RequestThrottled");
const NO_HANDLE: &str = "ReceiptHandleIsInvalid";
pub(super) const NOT_FOUND: Fault = ("ResourceNotFoundException", "ResourceNotFoundException");
pub(super) const UNSUPPORTED: Fault = ("UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation");

pub(super) async fn answer(shared: &Arc<Shared>, operation: &str, call: &Value) -> Result<Answer, Cut> {
    let misfortune = shared.lock().misfortune();
    if misfortune.throttle {
        return Ok(failure(THROTTLED));
    }
    if misfortune.cut_before {
        return Err(Cut);
    }
    tokio::time::sleep(misfortune.late_before).await;
    let answered = match operation {
        "ReceiveMessage" => receive(shared, call).await,
        _ => done(shared, operation, call),
    };
    tokio::time::sleep(misfortune.late_after).await;
    if misfortune.hang {
        tokio::time::sleep(NEVER).await;
    }
    if misfortune.cut_after {
        return Err(Cut);
    }
    Ok(answered
        .map_or_else(failure, |value| http::answer(StatusCode::OK, "application/x-amz-json-1.0", value.to_string())))
}

fn done(shared: &Arc<Shared>, operation: &str, call: &Value) -> Result<Value, Fault> {
    let now = Instant::now();
    let url = text(call, "QueueUrl");
    let mut state = shared.lock();
    match operation {
        "CreateQueue" => {
            let name = text(call, "QueueName");
            let queue = state.queues.entry(name.to_owned()).or_insert_with(|| Queue::new(Duration::from_secs(30)));
            configure(queue, &call["Attributes"]);
            for (key, value) in call["tags"].as_object().into_iter().flatten() {
                queue.tags.insert(key.clone(), value.as_str().unwrap_or_default().to_owned());
            }
            return Ok(json!({ "QueueUrl": shared.queue_url(name) }));
        }
        "GetQueueUrl" => {
            let name = text(call, "QueueName");
            return match state.queues.contains_key(name) {
                true => Ok(json!({ "QueueUrl": shared.queue_url(name) })),
                false => Err(NO_QUEUE),
            };
        }
        "ListQueues" => {
            let prefix = text(call, "QueueNamePrefix");
            let names = state.queues.keys().filter(|name| name.starts_with(prefix));
            let urls: Vec<String> = names.map(|name| shared.queue_url(name)).collect();
            return Ok(json!({ "QueueUrls": urls }));
        }
        "StartMessageMoveTask" => {
            drop(state);
            return moves::start(shared, call);
        }
        "ListMessageMoveTasks" => return moves::list(&state, call),
        "CancelMessageMoveTask" => return moves::cancel(&mut state, call),
        _ => {}
    }
    let refusing = operation == "SendMessageBatch" && state.odds.refuse_entry > 0.0;
    let name = name_of(url).to_owned();
    if !state.queues.contains_key(&name) {
        return Err(NO_QUEUE);
    }
    let answered = match operation {
        "SendMessage" => {
            let sent = send(shared, &mut state, &name, call, now);
            Ok(json!({ "MessageId": sent.id, "MD5OfMessageBody": "" }))
        }
        "SendMessageBatch" => {
            let entries = batch(call)?;
            let bytes: usize = entries.iter().map(|entry| size(entry)).sum();
            if bytes > MAX_BYTES {
                state.witness.too_large(bytes, entries.len());
                return Err(TOO_LONG);
            }
            let (mut taken, mut refused) = (Vec::new(), Vec::new());
            for entry in entries {
                if !is_carried(entry) {
                    refused.push(fault_of(entry, "InvalidMessageContents", true));
                } else if refusing && state.draw("entries refused", |odds| odds.refuse_entry) {
                    refused.push(fault_of(entry, "InternalError", false));
                } else {
                    let sent = send(shared, &mut state, &name, entry, now);
                    taken.push(json!({ "Id": entry["Id"], "MessageId": sent.id, "MD5OfMessageBody": "" }));
                }
            }
            Ok(json!({ "Successful": taken, "Failed": refused }))
        }
        operation => match state.queues.get_mut(&name) {
            Some(queue) => of_queue(shared, queue, &name, operation, call, now),
            None => Err(NO_QUEUE),
        },
    };
    drop(state);
    if operation.starts_with("SendMessage") {
        shared.arrived.notify_waiters();
    }
    answered
}

/// What concerns one queue alone.
fn of_queue(
    shared: &Shared,
    queue: &mut Queue,
    name: &str,
    operation: &str,
    call: &Value,
    now: Instant,
) -> Result<Value, Fault> {
    let hold = |queue: &mut Queue, entry: &Value| {
        let seconds = entry["VisibilityTimeout"].as_u64().unwrap_or_default();
        queue.hide(text(entry, "ReceiptHandle"), shared.paced(Duration::from_secs(seconds)), now)
    };
    match operation {
        "DeleteMessage" => {
            if queue.delete(text(call, "ReceiptHandle")) {
                Ok(json!({}))
            } else {
                Err((NO_HANDLE, NO_HANDLE))
            }
        }
        "DeleteMessageBatch" => {
            let (mut done, mut failed) = (Vec::new(), Vec::new());
            for entry in batch(call)? {
                if queue.delete(text(entry, "ReceiptHandle")) {
                    done.push(json!({ "Id": entry["Id"] }));
                } else {
                    failed.push(fault_of(entry, NO_HANDLE, true));
                }
            }
            Ok(json!({ "Successful": done, "Failed": failed }))
        }
        "ChangeMessageVisibility" => match hold(queue, call) {
            true => Ok(json!({})),
            false => Err(("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight")),
        },
        "ChangeMessageVisibilityBatch" => {
            let (mut done, mut failed) = (Vec::new(), Vec::new());
            for entry in batch(call)? {
                if hold(queue, entry) {
                    done.push(json!({ "Id": entry["Id"] }));
                } else {
                    failed.push(fault_of(entry, "MessageNotInflight", true));
                }
            }
            Ok(json!({ "Successful": done, "Failed": failed }))
        }
        "GetQueueAttributes" => Ok(json!({ "Attributes": attributes_of(queue, name, now) })),
        "SetQueueAttributes" => {
            configure(queue, &call["Attributes"]);
            Ok(json!({}))
        }
        "ListQueueTags" => Ok(json!({ "Tags": queue.tags })),
        "TagQueue" => {
            for (key, value) in call["Tags"].as_object().into_iter().flatten() {
                queue.tags.insert(key.clone(), value.as_str().unwrap_or_default().to_owned());
            }
            Ok(json!({}))
        }
        "PurgeQueue" => {
            queue.purge();
            Ok(json!({}))
        }
        _ => Err(UNSUPPORTED),
    }
}

async fn receive(shared: &Shared, call: &Value) -> Result<Value, Fault> {
    let name = name_of(text(call, "QueueUrl"));
    if !shared.lock().queues.contains_key(name) {
        return Err(NO_QUEUE);
    }
    let max = call["MaxNumberOfMessages"].as_u64().and_then(|max| usize::try_from(max).ok()).unwrap_or(1);
    let visibility = call["VisibilityTimeout"].as_u64().map(Duration::from_secs);
    let until =
        Instant::now() + shared.paced(Duration::from_secs(call["WaitTimeSeconds"].as_u64().unwrap_or_default()));
    let mut received = shared.receive(name, max, visibility, false);
    while received.is_empty() && Instant::now() < until {
        let _ = tokio::time::timeout(Duration::from_millis(20), shared.arrived.notified()).await;
        received = shared.receive(name, max, visibility, false);
    }
    let messages: Vec<Value> = received.iter().map(spelled).collect();
    Ok(json!({ "Messages": messages }))
}

fn spelled(received: &Received) -> Value {
    let sent = &received.sent;
    let attributes = sent
        .attributes
        .iter()
        .map(|(name, (kind, value))| (name.clone(), json!({ "DataType": kind, "StringValue": value })));
    let attributes: Map<String, Value> = attributes.collect();
    json!({
        "MessageId": sent.id, "ReceiptHandle": received.receipt_handle, "Body": &*sent.body, "MD5OfBody": "",
        "Attributes": { "ApproximateReceiveCount": received.receives.to_string(), "SentTimestamp": sent.sent_ms.to_string() },
        "MessageAttributes": attributes,
    })
}

fn send(shared: &Shared, state: &mut State, name: &str, entry: &Value, now: Instant) -> Sent {
    let given = entry["MessageAttributes"].as_object().into_iter().flatten().map(|(name, value)| {
        (name.clone(), (text(value, "DataType").to_owned(), text(value, "StringValue").to_owned()))
    });
    let sent = shared.sent(text(entry, "MessageBody").into(), Arc::new(given.collect::<Attributes>()));
    let delay = shared.paced(Duration::from_secs(entry["DelaySeconds"].as_u64().unwrap_or_default()));
    if let Some(queue) = state.queues.get_mut(name) {
        queue.send(sent.clone(), delay, false, now);
    }
    sent
}

fn fault_of(entry: &Value, code: &str, senders: bool) -> Value {
    json!({ "Id": entry["Id"], "Code": code, "SenderFault": senders, "Message": code })
}

/// Whether a queue carries every character of it (Amazon SQS API Reference, SendMessage).
fn is_carried(entry: &Value) -> bool {
    let carried = |text: &str| {
        !text.is_empty()
            && !text.contains(|c: char| c < ' ' && !"\t\n\r".contains(c) || c == '\u{fffe}' || c == '\u{ffff}')
    };
    carried(text(entry, "MessageBody")) && size(entry) <= MAX_BYTES
}

fn size(entry: &Value) -> usize {
    let attributes = entry["MessageAttributes"].as_object().into_iter().flatten();
    let attributes =
        attributes.map(|(name, value)| name.len() + text(value, "DataType").len() + text(value, "StringValue").len());
    text(entry, "MessageBody").len() + attributes.sum::<usize>()
}

fn batch(call: &Value) -> Result<Vec<&Value>, Fault> {
    let entries: Vec<&Value> = call["Entries"].as_array().into_iter().flatten().collect();
    match entries.len() {
        0 => Err(EMPTY),
        1..=10 => Ok(entries),
        _ => Err(TOO_MANY),
    }
}

fn configure(queue: &mut Queue, attributes: &Value) {
    for (name, value) in attributes.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        queue.settings.insert(name.clone(), value.to_owned());
        match name.as_str() {
            "VisibilityTimeout" => queue.visibility = Duration::from_secs(value.parse().unwrap_or(30)),
            "RedrivePolicy" => queue.redrive = redrive(value),
            _ => {}
        }
    }
}

/// The count comes as a number or as text, depending on who wrote the policy.
fn redrive(policy: &str) -> Option<(String, u32)> {
    let policy: Value = serde_json::from_str(policy).ok()?;
    let count = &policy["maxReceiveCount"];
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
    Some((name_of(policy["deadLetterTargetArn"].as_str()?).to_owned(), u32::try_from(count).ok()?))
}

fn attributes_of(queue: &mut Queue, name: &str, now: Instant) -> Map<String, Value> {
    let depth = queue.depth(now);
    let mut attributes: Map<String, Value> =
        queue.settings.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let mut put = |name: &str, value: String| attributes.insert(name.to_owned(), value.into());
    put("QueueArn", queue_arn(name));
    put("ApproximateNumberOfMessages", depth.visible.to_string());
    put("ApproximateNumberOfMessagesNotVisible", depth.in_flight.to_string());
    put("ApproximateNumberOfMessagesDelayed", depth.delayed.to_string());
    put("VisibilityTimeout", queue.visibility.as_secs().to_string());
    if let Some((dead_letters, most)) = &queue.redrive {
        let policy = json!({ "deadLetterTargetArn": queue_arn(dead_letters), "maxReceiveCount": most });
        put("RedrivePolicy", policy.to_string());
    }
    attributes
}

pub(super) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn failure((shape, name): Fault) -> Answer {
    let body = json!({ "__type": format!("com.amazonaws.sqs#{shape}"), "message": shape });
    let mut answer = http::answer(StatusCode::BAD_REQUEST, "application/x-amz-json-1.0", body.to_string());
    if let Ok(value) = HeaderValue::from_str(&format!("{name};Sender")) {
        answer.headers_mut().insert("x-amzn-query-error", value);
    }
    answer
}
