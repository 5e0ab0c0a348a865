//! Subscriptions: each event arrives where its agent reads it, as it was published, and what cannot be delivered is kept.

use super::{
    Finding,
    flow::{FUNCTION, Mapping, QUEUE, TOPIC, binary, dead_letters, mappings, published, subscriptions},
    stack::{Stack, by_ref, list, text, texts},
};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn subscribed(stack: &Stack, found: &mut Vec<Finding>) {
    let all = subscriptions(stack);
    let published = published(stack);
    for one in &all {
        let mut say = |says: &str| found.push(Finding::new("subscription", one.id, says));
        if text(&one.properties["Protocol"]) != "sqs" || stack.get(one.queue, QUEUE).is_none() {
            say("delivers to no queue of this template");
            continue;
        }
        if stack.get(one.topic, TOPIC).is_none() {
            say("is of no topic of this template");
        }
        if text(&one.properties["RawMessageDelivery"]) != "true" {
            say("does not deliver raw: the body would be SNS's envelope, and no event");
        }
        let own = dead_letters(stack, one.queue);
        match one.dead_letters.filter(|letters| stack.get(letters, QUEUE).is_some()) {
            None => say("has no dead-letter queue: what SNS cannot deliver is lost"),
            Some(letters) if Some(letters) == own || letters == one.queue => {
                say("leaves what SNS cannot deliver in a queue that has another purpose");
            }
            Some(letters)
                if all.iter().any(|two| {
                    two.dead_letters == Some(letters) && reader(stack, two.queue) != reader(stack, one.queue)
                }) =>
            {
                say("shares its dead-letter queue with another agent's");
            }
            Some(_) => {}
        }
        let filter = &one.properties["FilterPolicy"];
        if published.contains(&one.topic) {
            let types = texts(&filter["event_type"]);
            if types.is_empty() || types.iter().any(|name| name.is_empty() || name.starts_with('{')) {
                say("does not name the types of its events (event_type): the agent would receive others too");
            }
            let scope = text(&one.properties["FilterPolicyScope"]);
            if !(scope.is_empty() || scope == "MessageAttributes") {
                say("filters by the body; the type is an attribute");
            }
        } else if !filter.is_null() {
            say("filters what publishers without a database send: what does not match is lost");
        }
        if reader(stack, one.queue).is_none() {
            say("delivers to a queue that no function reads");
        }
    }
    for mapping in mappings(stack) {
        if stack.get(mapping.queue, QUEUE).is_some() && !all.iter().any(|one| one.queue == mapping.queue) {
            found.push(Finding::new("subscription", mapping.queue, "is subscribed to no topic: nothing arrives"));
        }
    }
    priorities(stack, found);
    tags_and_settings(stack, found);
}

/// The function that reads a queue.
fn reader<'a>(stack: &'a Stack, queue: &str) -> Option<&'a str> {
    mappings(stack).into_iter().find(|mapping| mapping.queue == queue).map(|mapping| mapping.function)
}

/// An agent's two queues share the priorities without a gap and without an overlap; one queue takes all of them.
fn priorities(stack: &Stack, found: &mut Vec<Finding>) {
    let all = subscriptions(stack);
    for (function, _) in stack.all(FUNCTION) {
        let of_it: Vec<_> = all.iter().filter(|one| reader(stack, one.queue) == Some(function)).collect();
        let Some(first) = of_it.first() else { continue };
        if of_it.iter().any(|one| one.topic != first.topic) {
            found.push(Finding::new("subscription", function, "has queues of different topics"));
        }
        let types = |filter: &Value| texts(&filter["event_type"]).into_iter().collect::<BTreeSet<_>>();
        if of_it.iter().any(|one| types(&one.properties["FilterPolicy"]) != types(&first.properties["FilterPolicy"])) {
            found.push(Finding::new("subscription", first.id, "has other types than the agent's other queue"));
        }
        let mut ranges: Vec<String> =
            of_it.iter().map(|one| text(&one.properties["FilterPolicy"]["priority"])).collect();
        ranges.sort();
        let from = of_it.iter().find_map(|one| tag(stack.get(one.queue, QUEUE)?, "switchyard:express-from"));
        let wanted = match &from {
            None => vec![String::new()],
            Some(from) => vec![format!(r#"[{{"numeric":["<",{from}]}}]"#), format!(r#"[{{"numeric":[">=",{from}]}}]"#)],
        };
        if ranges != wanted {
            let says = format!("receives the priorities {ranges:?}; its queues must share all of them: {wanted:?}");
            found.push(Finding::new("subscription", function, says));
        }
    }
}

fn tag(queue: &Value, key: &str) -> Option<String> {
    list(&queue["Tags"]).into_iter().find(|tag| tag["Key"] == key).map(|tag| text(&tag["Value"]))
}

/// What the operating functions and the runtime go by: tags of queues, and the URLs that a function gets.
fn tags_and_settings(stack: &Stack, found: &mut Vec<Finding>) {
    let mut agents: Vec<(String, &str)> = Vec::new();
    for mapping in mappings(stack) {
        let (Some(queue), Some(function)) = (stack.get(mapping.queue, QUEUE), stack.get(mapping.function, FUNCTION))
        else {
            continue;
        };
        let agent = tag(queue, "switchyard:agent").unwrap_or_default();
        if agent != binary(stack, mapping.function) {
            let says = format!("is tagged as the queue of {agent:?}, and another program reads it");
            found.push(Finding::new("tags", mapping.queue, says));
        }
        agents.push((agent, mapping.function));
        let is_express = tag(queue, "switchyard:express-from").is_some();
        let undelivered =
            subscriptions(stack).iter().find(|one| one.queue == mapping.queue).and_then(|one| one.dead_letters);
        let tagged = tag(queue, "switchyard:subscription-dead-letters");
        if !is_express && tagged != undelivered.map(|id| format!("${{{id}}}")) {
            found.push(Finding::new("tags", mapping.queue, "does not name the dead-letter queue of its subscription"));
        }
        let set = |name: &str| by_ref(&function["Environment"]["Variables"][name]);
        let url = if is_express { "EXPRESS_QUEUE_URL" } else { "QUEUE_URL" };
        for (name, wanted) in [(url, Some(mapping.queue)), ("DEAD_LETTER_URL", dead_letters(stack, mapping.queue))] {
            if set(name) != wanted {
                let says = format!("has another queue in {name} than the one that it reads or leaves dead letters in");
                found.push(Finding::new("settings", mapping.function, says));
            }
        }
    }
    for (id, function) in stack.all(FUNCTION) {
        let url = text(&function["Environment"]["Variables"]["EXPRESS_QUEUE_URL"]);
        let reads = |mapping: &Mapping<'_>| mapping.function == id && url == format!("${{{}}}", mapping.queue);
        if !url.is_empty() && !mappings(stack).iter().any(reads) {
            found.push(Finding::new("settings", id, "is told of an express queue that it does not read"));
        }
    }
    for (agent, function) in &agents {
        if agents.iter().any(|(other, at)| other == agent && at != function) {
            found.push(Finding::new("tags", function, format!("is not the only function of the agent {agent:?}")));
        }
    }
}
