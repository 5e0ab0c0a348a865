//! The topic's side: `PublishBatch` and `Publish`, and what a test needs to set one up.

use super::{Attributes, NEVER, Shared, Subscription, name_of, topic_arn, wire::escaped, witness::Seen};
use crate::http::{self, Answer, Cut};
use hyper::StatusCode;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// What a call may hold, attributes included, and how many entries (Amazon SNS API Reference, PublishBatch).
const LIMITS: (usize, usize) = (262_144, 10);

type Form = BTreeMap<String, String>;

struct Entry {
    id: String,
    body: Arc<str>,
    attributes: Arc<Attributes>,
}

impl Entry {
    fn size(&self) -> usize {
        let attributes = self.attributes.iter().map(|(name, (kind, value))| name.len() + kind.len() + value.len());
        self.body.len() + attributes.sum::<usize>()
    }
}

/// Ends a call's part in the witness's eyes when the call ends, also when its client went away.
struct InFlight {
    shared: Arc<Shared>,
    aggregates: Vec<String>,
}

impl InFlight {
    fn begin(shared: &Arc<Shared>, entries: &[Entry]) -> Self {
        let seen = entries.iter().filter_map(|entry| Seen::of(&entry.body));
        let aggregates: Vec<String> = seen.map(|seen| seen.aggregate().to_owned()).collect();
        shared.lock().witness.begin(&aggregates);
        Self { shared: Arc::clone(shared), aggregates }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.lock().witness.end(&self.aggregates);
    }
}

pub(super) async fn answer(shared: &Arc<Shared>, form: &Form) -> Result<Answer, Cut> {
    match form.get("Action").map(String::as_str) {
        Some("PublishBatch") => publish_batch(shared, form).await,
        Some("Publish") => Ok(publish(shared, form)),
        Some("CreateTopic") => {
            let name = form.get("Name").cloned().unwrap_or_default();
            shared.lock().topics.entry(name.clone()).or_default();
            Ok(success("CreateTopic", &format!("<TopicArn>{}</TopicArn>", topic_arn(&name))))
        }
        Some("Subscribe") => Ok(subscribe(shared, form)),
        Some("GetCallerIdentity") | None => Ok(failure("InvalidAction", "not spoken here")),
        Some(other) => Ok(failure("InvalidAction", other)),
    }
}

async fn publish_batch(shared: &Arc<Shared>, form: &Form) -> Result<Answer, Cut> {
    let entries = entries(form);
    let misfortune = shared.lock().misfortune();
    if misfortune.throttle {
        return Ok(failure("Throttled", "Rate exceeded"));
    }
    if misfortune.cut_before {
        return Err(Cut);
    }
    let bytes: usize = entries.iter().map(Entry::size).sum();
    if bytes > LIMITS.0 || entries.len() > LIMITS.1 {
        shared.lock().witness.too_large(bytes, entries.len());
        return Ok(failure(
            "BatchRequestTooLong",
            "The length of all the messages put together is more than the limit.",
        ));
    }
    let in_flight = InFlight::begin(shared, &entries);
    tokio::time::sleep(misfortune.late_before).await;
    let Some(answer) = take(shared, name_of(form.get("TopicArn").map_or("", String::as_str)), entries) else {
        return Ok(failure("NotFound", "Topic does not exist"));
    };
    tokio::time::sleep(misfortune.late_after).await;
    drop(in_flight);
    if misfortune.hang {
        tokio::time::sleep(NEVER).await;
    }
    if misfortune.cut_after { Err(Cut) } else { Ok(answer) }
}

/// Publishes and says what became of each. `None` where there is no such topic.
fn take(shared: &Shared, topic: &str, entries: Vec<Entry>) -> Option<Answer> {
    let (mut taken, mut refused) = (String::new(), String::new());
    let mut state = shared.lock();
    let routes = state
        .topics
        .get(topic)?
        .iter()
        .map(|one| (one.queue.clone(), one.raw, one.filter.clone(), one.dead_letters.clone()));
    let routes: Vec<_> = routes.collect();
    for entry in entries {
        if state.draw("entries refused", |odds| odds.refuse_entry) {
            refused += &format!(
                "<member><Id>{}</Id><Code>InternalError</Code><Message>try again</Message><SenderFault>false</SenderFault></member>",
                escaped(&entry.id)
            );
            continue;
        }
        if let Some(seen) = Seen::of(&entry.body) {
            state.witness.accepted(&seen);
        }
        let copies = if state.draw("duplicated", |odds| odds.duplicate) { 2 } else { 1 };
        let mut id = String::new();
        for (queue, raw, filter, dead_letters) in &routes {
            if !passes(filter, &entry.attributes) {
                continue;
            }
            for _ in 0..copies {
                let body = if *raw { Arc::clone(&entry.body) } else { enveloped(topic, &entry) };
                let sent = shared.sent(body, Arc::clone(&entry.attributes));
                id.clone_from(&sent.id);
                if !state.deliver(queue, sent.clone(), shared.pace)
                    && let Some(dead_letters) = dead_letters
                {
                    state.deliver(dead_letters, sent, shared.pace);
                }
            }
        }
        taken += &format!("<member><Id>{}</Id><MessageId>{id}</MessageId></member>", escaped(&entry.id));
    }
    drop(state);
    shared.arrived.notify_waiters();
    let result = format!("<Successful>{taken}</Successful><Failed>{refused}</Failed>");
    Some(success("PublishBatch", &result))
}

fn publish(shared: &Arc<Shared>, form: &Form) -> Answer {
    let entry = Entry {
        id: "0".into(),
        body: form.get("Message").map_or("", String::as_str).into(),
        attributes: Arc::new(attributes(form, "")),
    };
    match take(shared, name_of(form.get("TopicArn").map_or("", String::as_str)), vec![entry]) {
        Some(_) => success("Publish", "<MessageId>published</MessageId>"),
        None => failure("NotFound", "Topic does not exist"),
    }
}

fn subscribe(shared: &Shared, form: &Form) -> Answer {
    let mut settings = HashMap::new();
    for n in 1.. {
        let Some(key) = form.get(&format!("Attributes.entry.{n}.key")) else { break };
        settings.insert(key.as_str(), form.get(&format!("Attributes.entry.{n}.value")).map_or("", String::as_str));
    }
    let policy = settings.get("FilterPolicy").and_then(|text| serde_json::from_str(text).ok());
    let redrive: Option<serde_json::Value> =
        settings.get("RedrivePolicy").and_then(|text| serde_json::from_str(text).ok());
    let subscription = Subscription {
        queue: name_of(form.get("Endpoint").map_or("", String::as_str)).to_owned(),
        raw: settings.get("RawMessageDelivery") == Some(&"true"),
        filter: policy.unwrap_or_default(),
        dead_letters: redrive.and_then(|policy| Some(name_of(policy["deadLetterTargetArn"].as_str()?).to_owned())),
    };
    let topic = name_of(form.get("TopicArn").map_or("", String::as_str)).to_owned();
    let arn = format!("{}:{}", topic_arn(&topic), subscription.queue);
    match shared.lock().topics.get_mut(&topic) {
        Some(subscriptions) => subscriptions.push(subscription),
        None => return failure("NotFound", "Topic does not exist"),
    }
    success("Subscribe", &format!("<SubscriptionArn>{arn}</SubscriptionArn>"))
}

/// Every attribute that the policy names has one of the values.
fn passes(filter: &HashMap<String, Vec<String>>, attributes: &Attributes) -> bool {
    filter.iter().all(|(name, values)| attributes.get(name).is_some_and(|(_, value)| values.contains(value)))
}

/// A message as a subscription without raw delivery gets it.
fn enveloped(topic: &str, entry: &Entry) -> Arc<str> {
    let attributes = entry
        .attributes
        .iter()
        .map(|(name, (kind, value))| (name.clone(), serde_json::json!({ "Type": kind, "Value": value })));
    let attributes: serde_json::Map<_, _> = attributes.collect();
    let envelope = serde_json::json!({
        "Type": "Notification", "TopicArn": topic_arn(topic), "Message": &*entry.body, "MessageAttributes": attributes });
    envelope.to_string().into()
}

fn entries(form: &Form) -> Vec<Entry> {
    let mut entries = Vec::new();
    for n in 1.. {
        let at = format!("PublishBatchRequestEntries.member.{n}.");
        let Some(id) = form.get(&format!("{at}Id")) else { break };
        let body = form.get(&format!("{at}Message")).map_or("", String::as_str).into();
        entries.push(Entry { id: id.clone(), body, attributes: Arc::new(attributes(form, &at)) });
    }
    entries
}

fn attributes(form: &Form, at: &str) -> Attributes {
    let mut attributes = Attributes::new();
    for n in 1.. {
        let at = format!("{at}MessageAttributes.entry.{n}.");
        let Some(name) = form.get(&format!("{at}Name")) else { break };
        let part = |part: &str| form.get(&format!("{at}Value.{part}")).cloned().unwrap_or_default();
        attributes.insert(name.clone(), (part("DataType"), part("StringValue")));
    }
    attributes
}

fn success(action: &str, result: &str) -> Answer {
    let xml = format!(
        r#"<{action}Response xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><{action}Result>{result}</{action}Result><ResponseMetadata><RequestId>stand-in</RequestId></ResponseMetadata></{action}Response>"#
    );
    http::answer(StatusCode::OK, "text/xml", xml)
}

fn failure(code: &str, message: &str) -> Answer {
    let xml = format!(
        r#"<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type><Code>{code}</Code><Message>{}</Message></Error><RequestId>stand-in</RequestId></ErrorResponse>"#,
        escaped(message)
    );
    let status = match code {
        "Throttled" => StatusCode::TOO_MANY_REQUESTS,
        "NotFound" => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    };
    http::answer(status, "text/xml", xml)
}
