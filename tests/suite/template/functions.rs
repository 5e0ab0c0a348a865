//! Functions: how they start, what wakes them, who may call them from outside, where they log.

use super::{
    Finding,
    flow::{FUNCTION, binary, mappings},
    stack::{Stack, by_ref, entries, number, target, text, texts},
};
use serde_json::{Value, json};

const URL: &str = "AWS::Lambda::Url";
const LOG_GROUP: &str = "AWS::Logs::LogGroup";

/// Functions that nothing else starts.
const SCHEDULED: [&str; 2] = ["shim", "steward"];

pub(super) fn sound(stack: &Stack, found: &mut Vec<Finding>) {
    let mut groups = Vec::new();
    for (id, function) in stack.all(FUNCTION) {
        let mut say = |check, says: &str| found.push(Finding::new(check, id, says));
        if !number(&function["Timeout"]).is_some_and(|timeout| (1..=900).contains(&timeout)) {
            say("function", "has no timeout of 1 to 900 s");
        }
        if number(&function["ReservedConcurrentExecutions"]) == Some(0) {
            say("function", "reserves no concurrency, so it never runs");
        }
        if number(&function["MemorySize"]).is_none_or(|memory| memory < 128) {
            say("function", "does not say how much memory it has");
        }
        let built = [("Runtime", "provided.al2023".to_owned()), ("Handler", "bootstrap".into())];
        let architecture = texts(&function["Architectures"]) == [stack.parameter("Architecture")];
        if !architecture || built.iter().any(|(name, wanted)| text(&function[*name]) != *wanted) {
            say("function", "does not run what was built: another runtime, handler or architecture");
        }
        match by_ref(&function["LoggingConfig"]["LogGroup"]).filter(|group| stack.get(group, LOG_GROUP).is_some()) {
            None => say("logs", "logs into no group of this template"),
            Some(group) if groups.contains(&group) => say("logs", "logs into the group of another function"),
            Some(group) => groups.push(group),
        }
        vpc(stack, id, function, found);
        schedule(stack, id, function, found);
        if !function["FunctionUrlConfig"].is_null() {
            found.push(Finding::new("url", id, "has a URL among its properties, where it has no condition"));
        }
    }
    for (id, group) in stack.all(LOG_GROUP) {
        if text(&group["RetentionInDays"]) != stack.parameter("LogRetentionDays") {
            found.push(Finding::new("logs", id, "does not keep logs for as long as the parameter says"));
        }
    }
}

/// Settings that come from the parameters, by the program; the empty name is every program.
const SETTINGS: [(&str, &str, &str); 9] = [
    ("", "DATABASE_SECRET", "DatabaseSecret"),
    ("shim", "WEBHOOK_SECRET", "ShimWebhookSecret"),
    ("", "DATABASE_CA", "DatabaseCa"),
    ("", "DATABASE_CONNECTIONS", "DatabaseConnections"),
    ("", "SWITCHYARD_LOG", "LogLevel"),
    ("shim", "RESIDENT_SECONDS", "ShimResidentSeconds"),
    ("ingest", "MAX_HOPS", "MaxHops"),
    ("AGENT", "MAX_HOPS", "MaxHops"),
    ("AGENT", "CHAIN_HOURS", "ChainHours"),
];

/// What a function is told: the database, and what the parameters say.
pub(super) fn settings(stack: &Stack, found: &mut Vec<Finding>) {
    for (id, function) in stack.all(FUNCTION) {
        let variables = &function["Environment"]["Variables"];
        let program = binary(stack, id);
        let is_agent = program != "ingest" && mappings(stack).iter().any(|mapping| mapping.function == id);
        let is_of = |of: &str| of.is_empty() || of == program || (of == "AGENT" && is_agent);
        for (_, name, parameter) in SETTINGS.iter().filter(|(of, ..)| is_of(of)) {
            if text(&variables[*name]) != stack.parameter(parameter) {
                found.push(Finding::new(
                    "settings",
                    id,
                    format!("does not have {name} from the parameter {parameter}"),
                ));
            }
        }
        // The command line finds these two by their names.
        let named = ["steward", "redrive"].contains(&program.as_str());
        let name = if named { format!("${{AWS::StackName}}-{program}") } else { String::new() };
        if text(&function["FunctionName"]) != name {
            found.push(Finding::new("function", id, format!("must have the name {name:?}")));
        }
    }
}

fn vpc(stack: &Stack, id: &str, function: &Value, found: &mut Vec<Finding>) {
    let is_in = |name: &str| texts(&function["VpcConfig"][name]).join(",");
    let wanted = ["SubnetIds", "SecurityGroupIds"].map(|name| stack.parameter(name));
    let are = ["SubnetIds", "SecurityGroupIds"].map(is_in);
    let wanted = wanted.map(|list| serde_json::from_str::<Vec<String>>(&list).unwrap_or_default().join(","));
    if are != wanted {
        found.push(Finding::new("vpc", id, "is not in the subnets and security groups of the parameters"));
    }
}

fn schedule(stack: &Stack, id: &str, function: &Value, found: &mut Vec<Finding>) {
    let mut say = |says: &str| found.push(Finding::new("schedule", id, says));
    let events: Vec<_> = entries(&function["Events"]).map(|(_, event)| event).collect();
    if events.iter().any(|event| event["Type"] != "SQS" && event["Type"] != "Schedule") {
        say("is started by something that no check knows");
    }
    let schedules: Vec<_> = events.iter().filter(|event| event["Type"] == "Schedule").collect();
    let is_scheduled = SCHEDULED.contains(&binary(stack, id).as_str());
    if is_scheduled != (schedules.len() == 1) {
        say(if is_scheduled { "has no schedule of its own" } else { "is started by a schedule, and must not be" });
        return;
    }
    for event in schedules {
        let properties = &event["Properties"];
        let is_off =
            ["Enabled", "State"].iter().any(|name| ["false", "DISABLED"].contains(&text(&properties[*name]).as_str()));
        if text(&properties["Schedule"]) != "rate(1 minute)" || is_off {
            say("does not run every minute");
        }
        if number(&function["EventInvokeConfig"]["MaximumRetryAttempts"]) != Some(0) {
            say("is retried beside its schedule, which is the retry");
        }
        if !function["ReservedConcurrentExecutions"].is_null() {
            say("reserves concurrency, so a call from elsewhere keeps the schedule waiting");
        }
    }
    if binary(stack, id) == "redrive" || is_scheduled {
        return;
    }
    if !mappings(stack).iter().any(|mapping| mapping.function == id) {
        say("is started by nothing");
    }
}

/// A URL that everybody may call belongs to a function that checks signatures, and is there only while there is a secret to check them with.
pub(super) fn urls(stack: &Stack, found: &mut Vec<Finding>) {
    let mut open: Vec<&str> = Vec::new();
    for (id, url) in stack.all(URL) {
        let mut say = |says: &str| found.push(Finding::new("url", id, says));
        let function = target(&url["TargetFunctionArn"]).unwrap_or_default();
        let Some(properties) = stack.get(function, FUNCTION) else {
            say("is of no function of this template");
            continue;
        };
        match text(&url["AuthType"]).as_str() {
            "AWS_IAM" => {}
            "NONE" => {
                open.push(function);
                if text(&properties["Environment"]["Variables"]["WEBHOOK_SECRET"]).is_empty() {
                    say("is open to everybody, and its function has no secret to check a signature with");
                }
            }
            _ => say("does not say who may call it"),
        }
        if !url["Cors"].is_null() {
            say("may be called by other sites' pages; no page of ours calls it");
        }
    }
    let mut permitted: Vec<(&str, &str)> = Vec::new();
    for (id, permission) in stack.all("AWS::Lambda::Permission") {
        let function = target(&permission["FunctionName"]).unwrap_or_default();
        let by_url = text(&permission["FunctionUrlAuthType"]) == "NONE";
        let via_url = permission["InvokedViaFunctionUrl"] == true;
        let action = text(&permission["Action"]);
        let is_for_url = matches!(
            (action.as_str(), by_url, via_url),
            ("lambda:InvokeFunctionUrl", true, false) | ("lambda:InvokeFunction", false, true)
        );
        if permission["Principal"] == json!("*") && is_for_url && open.contains(&function) {
            permitted.push((function, if by_url { "url" } else { "function" }));
        } else {
            found.push(Finding::new(
                "url",
                id,
                "lets in whom the function's URL does not: who, what for and through what must be named",
            ));
        }
    }
    for function in open {
        for right in ["url", "function"] {
            if !permitted.contains(&(function, right)) {
                let says = "has an open URL and lacks one of the two permissions for it: every call is answered 403";
                found.push(Finding::new("url", function, says));
            }
        }
    }
}

/// No value of a secret is in the template, its parameters or a function's settings: a function gets the secret's name, and reads it itself.
pub(super) fn secrets(template: &Value, stack: &Stack, found: &mut Vec<Finding>) {
    let names = [stack.parameter("DatabaseSecret"), stack.parameter("ShimWebhookSecret"), String::new()];
    let is_secret = |name: &str| ["PASSWORD", "SECRET", "TOKEN", "URL"].iter().any(|part| name.contains(part));
    for (id, function) in stack.all(FUNCTION) {
        for (name, value) in entries(&function["Environment"]["Variables"]) {
            let value = text(value);
            let is_queue = value.starts_with("${");
            if value.contains("{{resolve:") || (is_secret(name) && !is_queue && !names.contains(&value)) {
                found.push(Finding::new("secret", id, format!("has a value in {name}, not the name of a secret")));
            }
        }
    }
    for (name, parameter) in entries(&template["Parameters"]) {
        let default = text(&parameter["Default"]);
        if default.contains("://") {
            found.push(Finding::new("secret", name, "has an address for its default, which may hold a password"));
        }
    }
    for (name, value) in &stack.outputs {
        if text(value).contains("{{resolve:") {
            found.push(Finding::new("secret", name, "shows the value of a secret among the outputs"));
        }
    }
}

/// Without a topic for alarms nobody is notified: the outputs say so.
pub(super) fn outputs(stack: &Stack, found: &mut Vec<Finding>) {
    let topic = stack.parameter("AlarmTopicArn");
    let says =
        |value: &&Value| if topic.is_empty() { text(value).contains("AlarmTopicArn") } else { text(value) == topic };
    if !stack.outputs.values().any(|value| says(&value)) {
        found.push(Finding::new("outputs", "Outputs", "do not say where alarms go, or that they go nowhere"));
    }
}
