//! What is connected with what in a stack: queues, functions and topics by their logical names.

use super::stack::{Stack, by_arn, by_ref, entries, list, target, text, texts};
use serde_json::Value;

pub(super) const FUNCTION: &str = "AWS::Serverless::Function";
pub(super) const QUEUE: &str = "AWS::SQS::Queue";
pub(super) const TOPIC: &str = "AWS::SNS::Topic";
pub(super) const ROLE: &str = "AWS::IAM::Role";

/// An event source mapping, declared by itself or among a function's events.
pub(super) struct Mapping<'a> {
    pub(super) id: String,
    pub(super) queue: &'a str,
    pub(super) function: &'a str,
    pub(super) properties: &'a Value,
}

/// A subscription of a queue to a topic.
pub(super) struct Subscription<'a> {
    pub(super) id: &'a str,
    pub(super) topic: &'a str,
    pub(super) queue: &'a str,
    pub(super) dead_letters: Option<&'a str>,
    pub(super) properties: &'a Value,
}

pub(super) fn mappings(stack: &Stack) -> Vec<Mapping<'_>> {
    let mut found = Vec::new();
    for (id, function) in stack.all(FUNCTION) {
        for (name, event) in entries(&function["Events"]).filter(|(_, event)| event["Type"] == "SQS") {
            let properties = &event["Properties"];
            let queue = by_arn(&properties["Queue"]).unwrap_or_default();
            found.push(Mapping { id: format!("{id}{name}"), queue, function: id, properties });
        }
    }
    for (id, properties) in stack.all("AWS::Lambda::EventSourceMapping") {
        let queue = by_arn(&properties["EventSourceArn"]).unwrap_or_default();
        let function = target(&properties["FunctionName"]).unwrap_or_default();
        found.push(Mapping { id: id.to_owned(), queue, function, properties });
    }
    found
}

pub(super) fn subscriptions(stack: &Stack) -> Vec<Subscription<'_>> {
    stack
        .all("AWS::SNS::Subscription")
        .map(|(id, properties)| Subscription {
            id,
            topic: target(&properties["TopicArn"]).unwrap_or_default(),
            queue: by_arn(&properties["Endpoint"]).unwrap_or_default(),
            dead_letters: by_arn(&properties["RedrivePolicy"]["deadLetterTargetArn"]),
            properties,
        })
        .collect()
}

/// Where a queue's own redrive policy moves messages.
pub(super) fn dead_letters<'a>(stack: &'a Stack, queue: &str) -> Option<&'a str> {
    by_arn(&stack.get(queue, QUEUE)?["RedrivePolicy"]["deadLetterTargetArn"])
}

/// The topics that functions of the stack publish to: what they carry is in the table. What travels by another topic is not.
pub(super) fn published(stack: &Stack) -> Vec<&str> {
    let publishes = |arn: &str| {
        stack.all(ROLE).flat_map(|(id, _)| statements_of(stack, id)).any(|statement| {
            texts(&statement["Action"]).iter().any(|action| action == "sns:Publish")
                && texts(&statement["Resource"]).iter().any(|resource| resource == arn)
        })
    };
    stack.all(TOPIC).map(|(id, _)| id).filter(|id| publishes(&format!("${{{id}}}"))).collect()
}

pub(super) const POLICY: &str = "AWS::IAM::Policy";

/// The policies of a role: its own, and those that are attached to it.
pub(super) fn policies_of<'a>(stack: &'a Stack, role: &str) -> Vec<&'a Value> {
    let own = stack.get(role, ROLE).map(|role| list(&role["Policies"])).unwrap_or_default();
    let is_attached = |policy: &Value| list(&policy["Roles"]).into_iter().any(|one| by_ref(one) == Some(role));
    let attached = stack.all(POLICY).map(|(_, policy)| policy).filter(|policy| is_attached(policy));
    own.into_iter().chain(attached).map(|policy| &policy["PolicyDocument"]).collect()
}

/// The statements of a role's policies.
pub(super) fn statements_of<'a>(stack: &'a Stack, role: &str) -> Vec<&'a Value> {
    policies_of(stack, role).into_iter().flat_map(|policy| list(&policy["Statement"])).collect()
}

/// The queues that hold the only copy of an event: a message to them comes from a topic that no function of the stack publishes to.
pub(super) fn only_copies(stack: &Stack) -> Vec<&str> {
    let published = published(stack);
    let mut queues = Vec::new();
    for subscription in subscriptions(stack).into_iter().filter(|one| !published.contains(&one.topic)) {
        queues.extend([Some(subscription.queue), dead_letters(stack, subscription.queue), subscription.dead_letters]);
    }
    queues.into_iter().flatten().collect()
}

/// The binary that a function runs.
pub(super) fn binary(stack: &Stack, function: &str) -> String {
    let attributes = stack.resources.get(function).map(|resource| &resource.attributes);
    attributes.map(|all| text(&all["Metadata"]["BuildProperties"]["Binary"])).unwrap_or_default()
}
