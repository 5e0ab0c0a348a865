//! What each function's role may do: what its function does, and no more.

use super::{
    Finding,
    flow::{FUNCTION, POLICY, ROLE, binary, dead_letters, mappings, policies_of, statements_of},
    stack::{Stack, by_arn, by_ref, entries, list, text, texts},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Actions that take no resource, or whose resource is known only when they run (Service Authorization Reference).
const WITHOUT_RESOURCE: [(&str, &str); 1] =
    [("lambda:ListEventSourceMappings", "takes no resource; it reads names and no settings")];

/// What an operating function may do with every queue of its stack, found by CloudFormation's tag.
const BY_TAG: [&str; 10] = [
    "sqs:GetQueueUrl",
    "sqs:GetQueueAttributes",
    "sqs:ListQueueTags",
    "sqs:SendMessage",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
    "sqs:StartMessageMoveTask",
    "sqs:ListMessageMoveTasks",
    "sqs:CancelMessageMoveTask",
];

/// What the steward does with a mapping: each by its own ARN, since CloudFormation may leave mappings without its tags.
const MAPPING: [&str; 2] = ["lambda:GetEventSourceMapping", "lambda:UpdateEventSourceMapping"];

fn arn_of_mapping(id: &str) -> String {
    format!("arn:${{AWS::Partition}}:lambda:${{AWS::Region}}:${{AWS::AccountId}}:event-source-mapping:${{{id}}}")
}

/// All queues of the account, of which the tag leaves the stack's.
const QUEUES: &str = "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:*";

/// What reading a queue takes, for Lambda and for the function.
const READING: [&str; 4] =
    ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"];

pub(super) fn least_rights(stack: &Stack, found: &mut Vec<Finding>) {
    for (id, role) in stack.all(ROLE) {
        trust(id, role, found);
        let mut documents = policies_of(stack, id);
        documents.push(&role["AssumeRolePolicyDocument"]);
        if documents.iter().any(|document| document["Version"] != "2012-10-17") {
            found.push(Finding::new("role", id, "has a policy in the older language (Version)"));
        }
        let functions: Vec<_> = stack.all(FUNCTION).filter(|(_, all)| by_arn(&all["Role"]) == Some(id)).collect();
        let [(function, properties)] = functions.as_slice() else {
            found.push(Finding::new(
                "role",
                id,
                format!("is the role of {} functions; each has its own", functions.len()),
            ));
            continue;
        };
        for statement in statements_of(stack, id) {
            granted(stack, id, function, properties, statement, found);
        }
        needed(stack, id, function, properties, found);
        managed(stack, id, role, found);
    }
    for (id, function) in stack.all(FUNCTION) {
        if by_arn(&function["Role"]).is_none_or(|role| stack.get(role, ROLE).is_none())
            || !function["Policies"].is_null()
        {
            found.push(Finding::new("role", id, "has no role of this template, or rights beside it"));
        }
    }
    for (id, policy) in stack.all(POLICY) {
        let roles = list(&policy["Roles"]);
        let to_others = ["Users", "Groups"].iter().any(|name| !policy[*name].is_null());
        if to_others
            || roles.is_empty()
            || !roles.into_iter().all(|role| by_ref(role).is_some_and(|role| stack.get(role, ROLE).is_some()))
        {
            found.push(Finding::new("role", id, "grants rights to others than the roles of this template"));
        }
    }
}

fn trust(id: &str, role: &Value, found: &mut Vec<Finding>) {
    let statements = list(&role["AssumeRolePolicyDocument"]["Statement"]);
    let lambda = json!({ "Service": "lambda.amazonaws.com" });
    let only_lambda = |statement: &&Value| {
        text(&statement["Effect"]) == "Allow"
            && statement["Principal"] == lambda
            && texts(&statement["Action"]) == ["sts:AssumeRole"]
    };
    if statements.is_empty() || !statements.iter().all(only_lambda) {
        found.push(Finding::new("role", id, "may be assumed by others than Lambda"));
    }
}

/// Whether a statement grants only what the function needs.
fn granted(stack: &Stack, id: &str, function: &str, properties: &Value, statement: &Value, found: &mut Vec<Finding>) {
    let mut say = |check, says: String| found.push(Finding::new(check, id, says));
    if text(&statement["Effect"]) != "Allow" || !statement["NotAction"].is_null() || !statement["NotResource"].is_null()
    {
        say("wildcard", "has a statement that says what it leaves out, or denies".into());
    }
    let condition = &statement["Condition"];
    let of_this_stack = condition
        == &json!({ "StringEquals": { "aws:ResourceTag/aws:cloudformation:stack-name": "${AWS::StackName}" } });
    let variables = &properties["Environment"]["Variables"];
    let read: Vec<&str> = mappings(stack).iter().filter(|one| one.function == function).map(|one| one.queue).collect();
    let letters: BTreeSet<&str> = read.iter().filter_map(|queue| dead_letters(stack, queue)).collect();
    let log = by_ref(&properties["LoggingConfig"]["LogGroup"]).unwrap_or_default();
    for action in texts(&statement["Action"]) {
        if action.contains('*') {
            say("wildcard", format!("may do {action}"));
            continue;
        }
        for resource in texts(&statement["Resource"]) {
            let is_of = |names: &[&str]| names.iter().any(|name| resource == format!("${{{name}.Arn}}"));
            let fits = match action.as_str() {
                _ if resource.contains("${AWS::StackName}-") => {
                    say("pattern", format!("may do {action} with whatever has a name like the stack's: {resource}"));
                    continue;
                }
                _ if WITHOUT_RESOURCE.iter().any(|(name, _)| *name == action) => resource == "*",
                "sns:Publish" => {
                    by_ref(&variables["TOPIC_ARN"]).is_some_and(|topic| resource == format!("${{{topic}}}"))
                }
                "logs:CreateLogStream" | "logs:PutLogEvents" => is_of(&[log]),
                "kms:Decrypt" | "kms:GenerateDataKey" => {
                    !resource.is_empty() && resource == stack.parameter("KmsKeyArn")
                }
                "secretsmanager:GetSecretValue" => secrets(variables).contains(&resource),
                "sqs:SendMessage" if !read.is_empty() => is_of(&letters.iter().copied().collect::<Vec<_>>()),
                action if !read.is_empty() => READING.contains(&action) && is_of(&read),
                action if BY_TAG.contains(&action) && of_this_stack => {
                    text(&variables["STACK_NAME"]) == "${AWS::StackName}" && resource == QUEUES
                }
                action if MAPPING.contains(&action) && binary(stack, function) == "steward" => {
                    mappings(stack).iter().any(|mapping| resource == arn_of_mapping(&mapping.id))
                }
                _ => false,
            };
            if !fits {
                let is_open = resource.ends_with('*') && !of_this_stack;
                say(
                    if is_open { "wildcard" } else { "least-rights" },
                    format!("may do {action} with {resource}, which {function} does not need"),
                );
            }
        }
    }
}

/// Whether the function has what it needs: without it CloudFormation or the function fails on AWS, and nothing does on LocalStack.
fn needed(stack: &Stack, id: &str, function: &str, properties: &Value, found: &mut Vec<Finding>) {
    let may = |action: &str, resource: &str| {
        statements_of(stack, id).into_iter().any(|statement| {
            texts(&statement["Action"]).iter().any(|one| one == action)
                && texts(&statement["Resource"]).iter().any(|one| one == resource)
        })
    };
    let mut needs: Vec<(&str, String)> = Vec::new();
    for mapping in mappings(stack).iter().filter(|mapping| mapping.function == function) {
        needs.extend(READING.iter().map(|action| (*action, format!("${{{}.Arn}}", mapping.queue))));
        needs.extend(
            dead_letters(stack, mapping.queue).map(|letters| ("sqs:SendMessage", format!("${{{letters}.Arn}}"))),
        );
    }
    let log = by_ref(&properties["LoggingConfig"]["LogGroup"]).unwrap_or_default();
    needs.extend(["logs:CreateLogStream", "logs:PutLogEvents"].map(|action| (action, format!("${{{log}.Arn}}"))));
    let topic = &properties["Environment"]["Variables"]["TOPIC_ARN"];
    needs.extend(by_ref(topic).map(|topic| ("sns:Publish", format!("${{{topic}}}"))));
    let operates: &[&str] = match binary(stack, function).as_str() {
        "steward" => &BY_TAG[..7],
        "redrive" => &BY_TAG,
        _ => &[],
    };
    if !operates.is_empty() {
        needs.push(("lambda:ListEventSourceMappings", "*".into()));
        needs.extend(operates.iter().map(|action| (*action, QUEUES.into())));
    }
    if binary(stack, function) == "steward" {
        for mapping in mappings(stack) {
            needs.extend(MAPPING.iter().map(|action| (*action, arn_of_mapping(&mapping.id))));
        }
    }
    needs.extend(
        secrets(&properties["Environment"]["Variables"])
            .into_iter()
            .map(|secret| ("secretsmanager:GetSecretValue", secret)),
    );
    let key = stack.parameter("KmsKeyArn");
    if !key.is_empty() {
        needs.extend([("kms:Decrypt", key.clone()), ("kms:GenerateDataKey", key)]);
    }
    for (action, resource) in needs.iter().filter(|(action, resource)| !may(action, resource)) {
        found.push(Finding::new(
            "missing-right",
            id,
            format!("may not do {action} with {resource}, and {function} must"),
        ));
    }
}

/// The ARNs of the secrets that a function is told to read. Secrets Manager puts a hyphen and six characters behind the name.
fn secrets(variables: &Value) -> Vec<String> {
    let names = entries(variables).filter(|(name, value)| name.ends_with("_SECRET") && !text(value).is_empty());
    names
        .map(|(_, name)| {
            let secrets = "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret";
            format!("{secrets}:{}-??????", text(name))
        })
        .collect()
}

/// The boundary of the parameters, and of AWS's own policies the one that a VPC takes.
fn managed(stack: &Stack, id: &str, role: &Value, found: &mut Vec<Finding>) {
    if text(&role["PermissionsBoundary"]) != stack.parameter("PermissionsBoundary") {
        found.push(Finding::new("boundary", id, "does not have the boundary that the parameter names"));
    }
    let in_vpc = !stack.parameter("SubnetIds").contains(r#"[""]"#);
    let wanted: &[&str] =
        if in_vpc { &["arn:${AWS::Partition}:iam::aws:policy/service-role/AWSLambdaENIManagementAccess"] } else { &[] };
    if texts(&role["ManagedPolicyArns"]) != wanted {
        found.push(Finding::new("role", id, format!("has other managed policies than {wanted:?}")));
    }
    if entries(role).any(|(name, _)| name == "RoleName") {
        found.push(Finding::new("role", id, "has a name, so a second stack cannot have it"));
    }
}
