//! Queues and mappings: nothing is handled twice at once, or lost early.

use super::{
    Finding,
    flow::{FUNCTION, QUEUE, TOPIC, dead_letters, mappings, only_copies, published, subscriptions},
    stack::{Stack, number, text, texts},
};
use serde_json::Value;
use std::collections::BTreeSet;

const DAY: i64 = 86_400;
/// The most that SQS keeps a message.
const LONGEST: i64 = 14 * DAY;
/// Over a weekend with nobody at work: no message may expire before somebody looks.
const WEEKEND: i64 = 4 * DAY;

/// AWS Lambda Developer Guide, "Using Lambda with Amazon SQS".
pub(super) fn visibility(stack: &Stack, found: &mut Vec<Finding>) {
    for mapping in mappings(stack) {
        let (Some(queue), Some(function)) = (stack.get(mapping.queue, QUEUE), stack.get(mapping.function, FUNCTION))
        else {
            let says = "connects no queue of this template with a function of it";
            found.push(Finding::new("mapping", &mapping.id, says));
            continue;
        };
        let visible = number(&queue["VisibilityTimeout"]).unwrap_or(30);
        let timeout = number(&function["Timeout"]).unwrap_or(3);
        let window = number(&mapping.properties["MaximumBatchingWindowInSeconds"]).unwrap_or(0);
        let least = 6 * timeout + window;
        if visible < least || visible > 43_200 {
            let says = format!(
                "hides a message for {visible} s; with a function that takes up to {timeout} s it must be {least} s"
            );
            found.push(Finding::new("visibility", mapping.queue, says));
        }
    }
}

pub(super) fn batches(stack: &Stack, found: &mut Vec<Finding>) {
    for mapping in mappings(stack) {
        let mut say = |says: &str| found.push(Finding::new("mapping", &mapping.id, says));
        let properties = mapping.properties;
        if texts(&properties["FunctionResponseTypes"]) != ["ReportBatchItemFailures"] {
            say("does not report batch item failures: one failed record brings back its whole batch");
        }
        let size = number(&properties["BatchSize"]).unwrap_or(10);
        let window = number(&properties["MaximumBatchingWindowInSeconds"]).unwrap_or(0);
        let is_fifo = stack.get(mapping.queue, QUEUE).is_some_and(is_fifo);
        if size < 1 || (size > 10 && (window < 1 || is_fifo)) || (is_fifo && window > 0) {
            say("has a size of batches that AWS refuses with this window and queue");
        }
        let most = number(&properties["ScalingConfig"]["MaximumConcurrency"]);
        let has_pollers = !properties["ProvisionedPollerConfig"].is_null();
        if has_pollers && !properties["ScalingConfig"].is_null() {
            say("has a ProvisionedPollerConfig and a MaximumConcurrency; Lambda takes one of them");
        } else if !has_pollers && !most.is_some_and(|most| (2..=1000).contains(&most)) {
            say("has no MaximumConcurrency from 2 to 1000: nothing bounds the connections to the database");
        }
        let reserved =
            stack.get(mapping.function, FUNCTION).and_then(|all| number(&all["ReservedConcurrentExecutions"]));
        if reserved.is_some_and(|reserved| reserved < most.unwrap_or(i64::MAX)) {
            say("may start more than its function reserves: throttled records use up their receives");
        }
        if texts(&properties["MetricsConfig"]["Metrics"]) != ["EventCount"] {
            say("does not count its events (MetricsConfig)");
        }
        if properties["Enabled"] == false || properties["Enabled"] == "false" {
            say("is off; only the steward turns a mapping off");
        }
        if !properties["FilterCriteria"].is_null() {
            say("has a filter, and Lambda deletes what does not match");
        }
    }
    let all = mappings(stack);
    let mut queues: Vec<&str> = all.iter().map(|mapping| mapping.queue).collect();
    queues.sort_unstable();
    for pair in queues.windows(2).filter(|pair| pair[0] == pair[1]) {
        found.push(Finding::new("mapping", pair[0], "is read by two mappings"));
    }
}

pub(super) fn dead_letter_queues(stack: &Stack, found: &mut Vec<Finding>) {
    let sources: BTreeSet<&str> = mappings(stack).iter().map(|mapping| mapping.queue).collect();
    let of_subscriptions: BTreeSet<&str> = subscriptions(stack).iter().filter_map(|one| one.dead_letters).collect();
    let only_copies = only_copies(stack);
    let mut owners: Vec<(&str, &str)> = Vec::new();
    let mut targets = of_subscriptions.clone();
    for mapping in mappings(stack) {
        let Some(queue) = stack.get(mapping.queue, QUEUE) else { continue };
        let mut say = |says: String| found.push(Finding::new("dead-letters", mapping.queue, says));
        let Some(letters) = dead_letters(stack, mapping.queue).filter(|letters| stack.get(letters, QUEUE).is_some())
        else {
            say("has no dead-letter queue".into());
            continue;
        };
        if sources.contains(letters) || of_subscriptions.contains(letters) {
            say(format!("has {letters} for its dead-letter queue, which has another purpose"));
        }
        targets.insert(letters);
        if let Some((_, other)) = owners.iter().find(|(known, other)| *known == letters && *other != mapping.function) {
            say(format!("shares the dead-letter queue {letters} with {other}"));
        }
        owners.push((letters, mapping.function));
        let receives = number(&queue["RedrivePolicy"]["maxReceiveCount"]).unwrap_or(0);
        if !(500..=1000).contains(&receives) {
            let says =
                "is given up after {} receives; an outage of four days takes 500, and the ledger counts attempts";
            say(says.replace("{}", &receives.to_string()));
        }
        let kept = number(&queue["MessageRetentionPeriod"]).unwrap_or(WEEKEND);
        let is_only_copy = only_copies.contains(&mapping.queue);
        if is_only_copy && kept != LONGEST {
            say(format!("holds the only copy of an event and keeps it for {kept} s, not for 14 days"));
        } else if kept < WEEKEND {
            say(format!("keeps messages for {kept} s; less than four days does not outlast a weekend"));
        } else if !is_only_copy && kept >= LONGEST {
            say("keeps messages as long as its dead-letter queue, where they keep the time of their first queue".into());
        }
    }
    for letters in &targets {
        let Some(queue) = stack.get(letters, QUEUE) else { continue };
        if number(&queue["MessageRetentionPeriod"]) != Some(LONGEST) {
            found.push(Finding::new(
                "dead-letters",
                letters,
                "does not keep dead letters for 14 days, the longest there is",
            ));
        }
        if !queue["RedrivePolicy"].is_null() {
            found.push(Finding::new("dead-letters", letters, "is a dead-letter queue and gives messages up itself"));
        }
    }
    let mut names: Vec<String> = Vec::new();
    for (id, queue) in stack.all(QUEUE) {
        if !sources.contains(id) && !targets.contains(id) {
            found.push(Finding::new("queue", id, "is read by no function, and holds nobody's dead letters"));
        }
        let name = text(&queue["QueueName"]);
        if !name.is_empty() && names.contains(&name) {
            found.push(Finding::new("queue", id, "has the name of another queue"));
        }
        names.push(name);
        if number(&queue["DelaySeconds"]).is_some_and(|delay| delay > 0) {
            found.push(Finding::new("queue", id, "delays every message"));
        }
        if !queue["RedriveAllowPolicy"].is_null() {
            found.push(Finding::new("queue", id, "limits whose dead letters it takes, which no check knows"));
        }
        if number(&queue["MaximumMessageSize"]).is_some_and(|size| size < 262_144) {
            found.push(Finding::new("queue", id, "takes smaller messages than the topic, which drops the rest"));
        }
    }
}

fn is_fifo(properties: &Value) -> bool {
    ["FifoQueue", "FifoTopic"].iter().any(|name| text(&properties[*name]) == "true")
}

/// SNS and SQS refuse, or do not order, what is half FIFO.
pub(super) fn fifo(stack: &Stack, found: &mut Vec<Finding>) {
    let wanted = stack.parameter("Topology") == "fifo";
    let of = |id: &str| stack.resources.get(id).is_some_and(|resource| is_fifo(&resource.properties));
    for topic in published(stack) {
        if of(topic) != wanted {
            found.push(Finding::new("fifo", topic, "is not what the parameter Topology says"));
        }
    }
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for one in &subscriptions(stack) {
        pairs.push((one.topic, one.queue));
        pairs.extend(one.dead_letters.map(|letters| (one.topic, letters)));
    }
    for (id, _) in stack.all(QUEUE) {
        pairs.extend(dead_letters(stack, id).map(|letters| (id, letters)));
    }
    for (from, to) in pairs.into_iter().filter(|(from, to)| of(from) != of(to)) {
        found.push(Finding::new("fifo", to, format!("and {from}: one is FIFO and the other is not")));
    }
    for (id, resource) in &stack.resources {
        let name = ["QueueName", "TopicName"].map(|name| text(&resource.properties[name])).concat();
        if is_fifo(&resource.properties) != name.ends_with(".fifo") {
            found.push(Finding::new(
                "fifo",
                id,
                "must have a name that ends with .fifo where it is FIFO, and only there",
            ));
        }
        if text(&resource.properties["ContentBasedDeduplication"]) == "true" {
            found.push(Finding::new("fifo", id, "drops messages by their body; each of ours has an id of its own"));
        }
        let only_fifo = ["DeduplicationScope", "FifoThroughputLimit", "FifoThroughputScope"];
        let is_set = only_fifo.iter().any(|name| !resource.properties[*name].is_null());
        if is_set && !is_fifo(&resource.properties) {
            found.push(Finding::new("fifo", id, "has settings that only FIFO has"));
        }
        if is_fifo(&resource.properties)
            && resource.kind == TOPIC
            && text(&resource.properties["FifoThroughputScope"]) != "MessageGroup"
        {
            found.push(Finding::new("fifo", id, "publishes no more than 300 events a second"));
        }
        if is_fifo(&resource.properties) && resource.kind == QUEUE {
            let scope = ["DeduplicationScope", "FifoThroughputLimit"].map(|name| text(&resource.properties[name]));
            if scope != ["messageGroup", "perMessageGroupId"] {
                found.push(Finding::new("fifo", id, "orders all aggregates among each other, at 300 calls a second"));
            }
        }
    }
}

/// A message in these queues is in no table.
pub(super) fn retained(stack: &Stack, found: &mut Vec<Finding>) {
    for id in only_copies(stack) {
        let Some(queue) = stack.resources.get(id) else { continue };
        for policy in ["DeletionPolicy", "UpdateReplacePolicy"] {
            if text(&queue.attributes[policy]) != "Retain" {
                let says = format!("holds the only copy of an event and is deleted with the stack ({policy})");
                found.push(Finding::new("retained", id, says));
            }
        }
    }
}

/// At rest: by the service's key, or by the stack's own where there is one.
pub(super) fn encrypted(stack: &Stack, found: &mut Vec<Finding>) {
    let key = stack.parameter("KmsKeyArn");
    let own = |properties: &Value, name: &str| text(&properties[name]) == key;
    for (id, queue) in stack.all(QUEUE) {
        let wanted = if key.is_empty() { ["true".to_owned(), String::new()] } else { [String::new(), key.clone()] };
        if ["SqsManagedSseEnabled", "KmsMasterKeyId"].map(|name| text(&queue[name])) != wanted {
            found.push(Finding::new(
                "encrypted",
                id,
                "does not encrypt messages with the key that the parameters ask for",
            ));
        }
    }
    let others = [(TOPIC, "KmsMasterKeyId"), ("AWS::Logs::LogGroup", "KmsKeyId"), (FUNCTION, "KmsKeyArn")];
    for (kind, name) in others {
        for (id, _) in stack.all(kind).filter(|(_, properties)| !own(properties, name)) {
            found.push(Finding::new(
                "encrypted",
                id,
                format!("does not use the key of the parameter KmsKeyArn ({name})"),
            ));
        }
    }
}
