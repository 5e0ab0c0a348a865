//! A template judged by what it means, with several choices of its parameters: whatever anybody adds to it is judged too.

use super::{
    alarms, functions, policies, queues, roles,
    stack::{Stack, entries},
    subscriptions,
};
use serde_json::Value;
use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    /// Which check found it.
    pub(super) check: &'static str,
    /// The logical name of the resource.
    pub(super) resource: String,
    /// What is wrong with it: the rest of a sentence that begins with the resource.
    pub(super) says: String,
}

impl Finding {
    pub(super) fn new(check: &'static str, resource: &str, says: impl Into<String>) -> Self {
        Self { check, resource: resource.to_owned(), says: says.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} [{}]", self.resource, self.says, self.check)
    }
}

/// As much as can be asked for beside the topology.
const EVERYTHING: [(&str, &str); 7] = [
    ("ShimWebhookSecret", "switchyard/webhook"),
    ("AlarmTopicArn", "arn:aws:sns:eu-west-1:000000000000:alarms"),
    ("KmsKeyArn", "arn:aws:kms:eu-west-1:000000000000:key/one"),
    ("PermissionsBoundary", "arn:aws:iam::000000000000:policy/boundary"),
    ("SubnetIds", "subnet-1,subnet-2"),
    ("SecurityGroupIds", "sg-1"),
    ("IngressPublishers", "arn:aws:iam::000000000000:role/publisher"),
];

/// The types of resources that the checks know. Of any other nobody would say what is wrong with it.
const KNOWN: [&str; 14] = [
    "AWS::CloudWatch::Alarm",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Permission",
    "AWS::Lambda::Url",
    "AWS::Logs::LogGroup",
    "AWS::Logs::MetricFilter",
    "AWS::SNS::Subscription",
    "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::Queue",
    "AWS::SQS::QueuePolicy",
    "AWS::Serverless::Function",
];

/// Everything that is wrong with a template.
pub(super) fn findings(template: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    for (id, resource) in entries(&template["Resources"]) {
        if !KNOWN.iter().any(|kind| resource["Type"] == *kind) {
            found.push(Finding::new("unknown", id, format!("is of a type that no check knows: {}", resource["Type"])));
        }
    }
    let fifo = [("Topology", "fifo")];
    let choices: [&[(&str, &str)]; 3] = [&[], &EVERYTHING, &fifo];
    for choice in choices {
        let (stack, unresolved) = Stack::of(template, choice);
        found.extend(unresolved);
        let checks = [
            queues::visibility,
            queues::batches,
            queues::dead_letter_queues,
            subscriptions::subscribed,
            queues::fifo,
            queues::retained,
            queues::encrypted,
            policies::sound,
            policies::admitted,
            policies::delivered,
            policies::only_over_tls,
            policies::only_ours_send,
            roles::least_rights,
            functions::sound,
            functions::settings,
            functions::urls,
            functions::outputs,
            alarms::there,
        ];
        for check in checks {
            check(&stack, &mut found);
        }
        functions::secrets(template, &stack, &mut found);
    }
    found.sort();
    found.dedup();
    found
}
