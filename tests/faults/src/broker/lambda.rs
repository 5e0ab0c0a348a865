//! The part of Lambda's own interface that the steward and the command line use: event source mappings, on and off.

use super::{ACCOUNT, REGION, Shared, queue_arn};
use crate::http::{self, Answer, Call};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

/// What feeds a function from a queue.
pub(super) struct Mapping {
    uuid: String,
    pub(super) queue: String,
    function: String,
    pub(super) enabled: bool,
}

impl Mapping {
    pub(super) fn new(queue: &str, function: &str) -> Self {
        let uuid = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, queue.as_bytes()).to_string();
        Self { uuid, queue: queue.to_owned(), function: function.to_owned(), enabled: true }
    }

    fn spelled(&self) -> Value {
        json!({
            "UUID": self.uuid, "EventSourceArn": queue_arn(&self.queue),
            "FunctionArn": format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}", self.function),
            "State": if self.enabled { "Enabled" } else { "Disabled" }, "BatchSize": 10 })
    }
}

pub(super) fn answer(shared: &Shared, call: &Call) -> Answer {
    let path = call.uri().path().trim_end_matches('/');
    let uuid = path.strip_prefix("/2015-03-31/event-source-mappings").map(|rest| rest.trim_start_matches('/'));
    let mut state = shared.lock();
    let Some(uuid) = uuid else { return unknown() };
    if uuid.is_empty() {
        let query = super::wire::form(call.uri().query().unwrap_or_default().as_bytes());
        let wanted = |mapping: &&Mapping| {
            query.get("EventSourceArn").is_none_or(|arn| *arn == queue_arn(&mapping.queue))
                && query.get("FunctionName").is_none_or(|name| *name == mapping.function)
        };
        let mappings: Vec<Value> = state.mappings.iter().filter(wanted).map(Mapping::spelled).collect();
        return http::json(&json!({ "EventSourceMappings": mappings }));
    }
    let Some(mapping) = state.mappings.iter_mut().find(|mapping| mapping.uuid == uuid) else { return unknown() };
    if *call.method() == Method::PUT {
        let change: Value = serde_json::from_slice(call.body()).unwrap_or_default();
        mapping.enabled = change["Enabled"].as_bool().unwrap_or(mapping.enabled);
    }
    http::json(&mapping.spelled())
}

fn unknown() -> Answer {
    let body = json!({ "Type": "User", "Message": "The resource you requested does not exist." }).to_string();
    let mut answer = http::answer(StatusCode::NOT_FOUND, "application/json", body);
    answer
        .headers_mut()
        .insert("x-amzn-errortype", hyper::header::HeaderValue::from_static("ResourceNotFoundException"));
    answer
}
