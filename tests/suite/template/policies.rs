//! Who may do what with topics and queues, by their own policies: as AWS evaluates them, a Deny wins, and it hits services too.

use super::{
    Finding,
    flow::{QUEUE, ROLE, TOPIC, dead_letters, mappings, published, statements_of, subscriptions},
    stack::{Stack, by_arn, entries, list, target, text, texts},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A policy of a topic or a queue.
struct Policy<'a> {
    id: &'a str,
    of: &'a str,
    statements: Vec<&'a Value>,
}

fn all(stack: &Stack) -> Vec<Policy<'_>> {
    let kinds = [("AWS::SNS::TopicPolicy", "Topics"), ("AWS::SQS::QueuePolicy", "Queues")];
    let mut found = Vec::new();
    for (kind, places) in kinds {
        for (id, properties) in stack.all(kind) {
            let statements = || list(&properties["PolicyDocument"]["Statement"]);
            let of = list(&properties[places]).into_iter().map(|place| target(place).unwrap_or_default());
            found.extend(of.map(|of| Policy { id, of, statements: statements() }));
        }
    }
    found
}

/// The ARN of a topic or a queue as the template spells it.
fn arn(stack: &Stack, id: &str) -> String {
    if stack.get(id, TOPIC).is_some() { format!("${{{id}}}") } else { format!("${{{id}.Arn}}") }
}

fn is_everybody(principal: &Value) -> bool {
    text(principal) == "*" || entries(principal).any(|(_, who)| texts(who).iter().any(|who| who.contains('*')))
}

fn is(statement: &Value, effect: &str) -> bool {
    text(&statement["Effect"]) == effect
}

fn has_action(statement: &Value, wanted: &str) -> bool {
    let service = wanted.split(':').next().unwrap_or_default();
    texts(&statement["Action"])
        .iter()
        .any(|action| action == wanted || *action == format!("{service}:*") || action == "*")
}

/// Every topic and queue has one policy; its statements are about it alone, and none lets in more than it names.
pub(super) fn sound(stack: &Stack, found: &mut Vec<Finding>) {
    let policies = all(stack);
    for kind in [TOPIC, QUEUE] {
        for (id, _) in stack.all(kind) {
            match policies.iter().filter(|policy| policy.of == id).count() {
                0 => found.push(Finding::new("policy", id, "has no policy")),
                1 => {}
                _ => found.push(Finding::new("policy", id, "has several policies, of which one replaces the others")),
            }
        }
    }
    for policy in &policies {
        let mut say = |check, says: &str| found.push(Finding::new(check, policy.id, says));
        if stack.get(policy.of, QUEUE).or(stack.get(policy.of, TOPIC)).is_none() {
            say("policy", "is of no topic or queue of this template");
            continue;
        }
        let kinds = ["AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy"];
        let document = kinds.iter().find_map(|kind| stack.get(policy.id, kind)).map(|all| &all["PolicyDocument"]);
        if document.is_none_or(|document| document["Version"] != "2012-10-17") {
            say("policy", "is in the older language, which knows no policy variables (Version)");
        }
        for statement in &policy.statements {
            if texts(&statement["Resource"]) != [arn(stack, policy.of)] {
                say(
                    "policy",
                    "must name its own topic or queue alone: SNS refuses a statement about two, and SQS one about another",
                );
            }
            if ["NotPrincipal", "NotAction", "NotResource"].iter().any(|name| !statement[*name].is_null()) {
                say("wildcard", "says whom or what it leaves out, and so covers everything else");
            }
            if is(statement, "Deny") {
                continue;
            }
            if !is(statement, "Allow") {
                say("policy", "has a statement that neither allows nor denies");
            }
            if is_everybody(&statement["Principal"]) || statement["Principal"].is_null() {
                say("wildcard", "lets in every principal");
            }
            if texts(&statement["Action"]).iter().any(|action| action.contains('*')) {
                say("wildcard", "allows every action");
            }
            let only = if stack.get(policy.of, TOPIC).is_some() { "sns:Publish" } else { "sqs:SendMessage" };
            if texts(&statement["Action"]) != [only] {
                say("least-rights", "allows more than to send; who reads has the right from a role");
            }
            for (kind, who) in entries(&statement["Principal"]) {
                if kind == "Service" && !from_one_topic(stack, policy.of, statement) {
                    say("source", "admits a service without the ARN of the one topic that it delivers from");
                }
                if kind == "Service" && texts(who) != ["sns.amazonaws.com"] {
                    say("least-rights", "admits another service than SNS");
                }
                if kind != "Service" && stack.get(policy.of, QUEUE).is_some() {
                    say(
                        "least-rights",
                        "admits principals to a queue that only the topic fills; roles have their rights from IAM",
                    );
                }
            }
        }
    }
}

/// A topic admits those who publish to it: the roles that do, or whom the parameter names, or else this account, whose IAM decides.
pub(super) fn admitted(stack: &Stack, found: &mut Vec<Finding>) {
    let policies = all(stack);
    let published = published(stack);
    let named: Vec<String> = serde_json::from_str(&stack.parameter("IngressPublishers")).unwrap_or_default();
    let account = "arn:${AWS::Partition}:iam::${AWS::AccountId}:root".to_owned();
    for (id, _) in stack.all(TOPIC) {
        let statements = policies.iter().filter(|policy| policy.of == id).flat_map(|policy| &policy.statements);
        let may: BTreeSet<String> =
            statements.filter(|one| is(one, "Allow")).flat_map(|one| texts(&one["Principal"]["AWS"])).collect();
        let wanted: BTreeSet<String> = if published.contains(&id) {
            senders(stack, id, "sns:Publish").into_iter().map(|role| format!("${{{role}.Arn}}")).collect()
        } else if named.iter().all(String::is_empty) {
            BTreeSet::from([account.clone()])
        } else {
            named.iter().cloned().collect()
        };
        if may != wanted {
            found.push(Finding::new("admitted", id, format!("admits {may:?}, and those who publish are {wanted:?}")));
        }
    }
}

/// Whether a statement holds for one topic alone, one whose subscription ends in this queue.
fn from_one_topic(stack: &Stack, queue: &str, statement: &Value) -> bool {
    let sources: Vec<String> = entries(&statement["Condition"])
        .filter(|(operator, _)| ["ArnEquals", "ArnLike", "StringEquals"].contains(&operator.as_str()))
        .flat_map(|(_, keys)| entries(keys))
        .filter(|(key, _)| key.eq_ignore_ascii_case("aws:SourceArn"))
        .flat_map(|(_, topics)| texts(topics))
        .collect();
    let feeds = |topic: &str| {
        let ends_here = |one: &super::flow::Subscription<'_>| one.queue == queue || one.dead_letters == Some(queue);
        subscriptions(stack).iter().any(|one| ends_here(one) && arn(stack, one.topic) == topic)
    };
    !sources.is_empty() && sources.iter().all(|topic| feeds(topic))
}

/// What SNS delivers is accepted by the queue and, failing that, by the subscription's dead-letter queue.
pub(super) fn delivered(stack: &Stack, found: &mut Vec<Finding>) {
    let policies = all(stack);
    for one in subscriptions(stack) {
        for queue in [Some(one.queue), one.dead_letters].into_iter().flatten() {
            let statements =
                || policies.iter().filter(|policy| policy.of == queue).flat_map(|policy| &policy.statements);
            let admits = |statement: &&&Value| {
                is(statement, "Allow")
                    && has_action(statement, "sqs:SendMessage")
                    && text(&statement["Principal"]["Service"]) == "sns.amazonaws.com"
                    && from_one_topic(stack, queue, statement)
            };
            if !statements().any(|statement| admits(&statement)) {
                found.push(Finding::new(
                    "delivery",
                    queue,
                    format!("does not accept what SNS delivers for {}", one.id),
                ));
            }
            let denies = |statement: &&&Value| {
                is(statement, "Deny")
                    && has_action(statement, "sqs:SendMessage")
                    && !spares_services(statement)
                    && !is_tls(statement)
            };
            if statements().any(|statement| denies(&statement)) {
                found.push(Finding::new(
                    "delivery",
                    queue,
                    "denies SNS too, which is no role (aws:PrincipalIsAWSService)",
                ));
            }
        }
    }
}

fn spares_services(statement: &Value) -> bool {
    ["Bool", "BoolIfExists"]
        .iter()
        .any(|operator| text(&statement["Condition"][*operator]["aws:PrincipalIsAWSService"]) == "false")
}

fn is_tls(statement: &Value) -> bool {
    let condition = &statement["Condition"];
    condition == &json!({ "Bool": { "aws:SecureTransport": "false" } })
        || condition == &json!({ "Bool": { "aws:SecureTransport": false } })
}

pub(super) fn only_over_tls(stack: &Stack, found: &mut Vec<Finding>) {
    let policies = all(stack);
    for kind in [TOPIC, QUEUE] {
        for (id, _) in stack.all(kind) {
            let wanted = if kind == TOPIC { "sns:Publish" } else { "sqs:*" };
            let demands = |statement: &&Value| {
                is(statement, "Deny")
                    && text(&statement["Principal"]) == "*"
                    && texts(&statement["Action"]) == [wanted]
                    && is_tls(statement)
            };
            if !policies
                .iter()
                .filter(|policy| policy.of == id)
                .flat_map(|policy| policy.statements.clone())
                .any(|one| demands(&one))
            {
                found.push(Finding::new("tls", id, "does not deny what does not come over TLS"));
            }
        }
    }
}

/// Whoever may publish to the agents' topic, or send to their queues, can make an agent act: nobody may but the roles that do.
pub(super) fn only_ours_send(stack: &Stack, found: &mut Vec<Finding>) {
    let policies = all(stack);
    let mut guarded: Vec<(&str, &str)> = published(stack).into_iter().map(|topic| (topic, "sns:Publish")).collect();
    let read: BTreeSet<&str> = mappings(stack).iter().map(|mapping| mapping.queue).collect();
    let letters = read.iter().filter_map(|queue| dead_letters(stack, queue)).collect::<BTreeSet<_>>();
    let undelivered = subscriptions(stack).iter().filter_map(|one| one.dead_letters).collect::<BTreeSet<_>>();
    guarded.extend(read.iter().chain(&letters).chain(&undelivered).map(|queue| (*queue, "sqs:SendMessage")));
    for (id, action) in guarded {
        let mut closed = false;
        for statement in policies.iter().filter(|policy| policy.of == id).flat_map(|policy| &policy.statements) {
            if !is(statement, "Deny")
                || is_tls(statement)
                || !has_action(statement, action)
                || text(&statement["Principal"]) != "*"
            {
                continue;
            }
            closed = true;
            if texts(&statement["Action"]) != [action] {
                found.push(Finding::new("senders", id, "denies more than to send, so nobody can read"));
            }
            let may = exempt(statement);
            // What SNS could not deliver comes from SNS alone.
            let wanted = if undelivered.contains(id) { BTreeSet::new() } else { senders(stack, id, action) };
            if may != wanted {
                let says = format!("lets the roles {may:?} send, and those that have the right are {wanted:?}");
                found.push(Finding::new("senders", id, says));
            }
            if action == "sqs:SendMessage" && !spares_services(statement) {
                found.push(Finding::new(
                    "senders",
                    id,
                    "denies services too: SNS, and SQS itself where it moves dead letters",
                ));
            }
            let known = ["ArnNotEquals", "StringNotEquals", "ArnNotLike", "Bool", "BoolIfExists"];
            if entries(&statement["Condition"]).any(|(operator, _)| !known.contains(&operator.as_str())) {
                found.push(Finding::new("senders", id, "denies under a condition that no check knows"));
            }
        }
        if !closed {
            found.push(Finding::new("senders", id, "does not deny everybody else to send"));
        }
    }
}

/// The roles that a Deny leaves out by `aws:PrincipalArn`.
fn exempt(statement: &Value) -> BTreeSet<&str> {
    ["ArnNotEquals", "StringNotEquals", "ArnNotLike"]
        .iter()
        .flat_map(|operator| list(&statement["Condition"][*operator]["aws:PrincipalArn"]))
        .map(|role| by_arn(role).unwrap_or("of another template"))
        .collect()
}

/// The roles that may send to a topic or a queue: by its ARN, or by the stack's tag.
fn senders<'a>(stack: &'a Stack, id: &str, action: &str) -> BTreeSet<&'a str> {
    let arn = arn(stack, id);
    let reaches = |statement: &Value| {
        has_action(statement, action)
            && texts(&statement["Resource"])
                .iter()
                .any(|resource| *resource == arn || (resource.contains(":sqs:") && resource.ends_with(":*")))
    };
    stack.all(ROLE).map(|(id, _)| id).filter(|id| statements_of(stack, id).into_iter().any(reaches)).collect()
}
