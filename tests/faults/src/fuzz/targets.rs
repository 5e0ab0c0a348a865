//! The parsers, and what each of them knows.

use super::SECRET;
use jiff::Timestamp;
use serde_json::Value;
use switchyard_event::{Event, Metadata};
use switchyard_runtime::{envelope, lambda};
use switchyard_store::{DatabaseUrl, Pending};
use uuid::Uuid;

/// A parser.
pub(super) struct Target {
    pub(super) name: &'static str,
    /// Inputs that it knows; some of them it accepts.
    pub(super) corpus: fn() -> Vec<String>,
    /// Its error's text, as people would see it.
    pub(super) parse: fn(&str) -> Result<(), String>,
}

pub(super) const TARGETS: [Target; 11] = [
    Target { name: "an event on the wire", corpus: events, parse: event },
    Target { name: "metadata on the wire", corpus: metadata, parse: metadata_on_the_wire },
    Target { name: "metadata of a row", corpus: metadata, parse: metadata_of_a_row },
    Target { name: "a row on its way to the topic", corpus: events, parse: row },
    Target { name: "a batch from a queue", corpus: batches, parse: batch },
    Target { name: "a request to the shim's URL", corpus: webhooks, parse: webhook },
    Target { name: "a webhook's signature", corpus: signatures, parse: signature },
    Target { name: "a request to the steward", corpus: steward_requests, parse: steward_request },
    Target { name: "a request to redrive", corpus: redrive_requests, parse: redrive_request },
    Target { name: "a body for ingest", corpus: events, parse: ingested },
    Target { name: "a database's address", corpus: addresses, parse: address },
];

fn text(error: &impl ToString) -> String {
    error.to_string()
}

fn events() -> Vec<String> {
    let mut all: Vec<String> = [
        include_str!("../../../../shared/feedback/fixtures/feedback.created.v1.json"),
        include_str!("../../../../shared/feedback/fixtures/feedback.voted.v1.json"),
        include_str!("../../../../shared/event/fixtures/clock.ticked.v1.json"),
        include_str!("../../../../shared/feedback/fixtures/spec.auto_drafted.v1.json"),
    ]
    .map(str::to_owned)
    .to_vec();
    all.push(format!(
        r#"{{"id":"6f1e8f5e-2f2a-4c1e-9a51-0d6f3f1f0a01","type":"feedback.created","aggregate_type":"post","aggregate_id":"p-1","payload":{{"note":"{SECRET}","list":["{SECRET}",1e400]}},"version":1,"metadata":{{"timestamp":"2026-01-02T03:04:05Z","hops":1,"priority":5,"max_attempts":4,"deliver_at":"2026-01-02T03:04:05Z","claim_check":{{"bytes":7}},"revision":2}}}}"#
    ));
    all
}

fn event(input: &str) -> Result<(), String> {
    let event = Event::parse(input).map_err(|error| text(&error))?;
    // What came in goes out again as the same.
    let again = Event::parse(&event.to_wire()).map_err(|error| format!("its own wire form: {error}"));
    assert!(again.is_ok_and(|again| again.id == event.id && again.version == event.version), "not what came in");
    let _ = event.decode::<u64>();
    Ok(())
}

fn metadata() -> Vec<String> {
    let bodies = events()
        .into_iter()
        .filter_map(|body| Some(serde_json::from_str::<Value>(&body).ok()?["metadata"].to_string()));
    bodies.chain(["{}".into(), r#"{"timestamp":"2026-01-02T03:04:05Z","mine":[1.0]}"#.into()]).collect()
}

fn metadata_on_the_wire(input: &str) -> Result<(), String> {
    Metadata::parse(input).map(drop).map_err(|error| text(&error))
}

fn metadata_of_a_row(input: &str) -> Result<(), String> {
    let metadata = Metadata::of_row(Some(input), Timestamp::UNIX_EPOCH).map_err(|error| text(&error))?;
    assert!(Metadata::parse(&metadata.to_json()).is_ok(), "what is made of a row is no metadata to an agent");
    Ok(())
}

/// A row whose payload and metadata are whatever a database may hold.
fn row(input: &str) -> Result<(), String> {
    let given: Value = serde_json::from_str(input).map_err(|_| "no row at all".to_owned())?;
    let part = |name: &str| given.get(name).filter(|part| !part.is_null());
    let name = |name: &str| {
        part(name).map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned)).unwrap_or_default()
    };
    let payload = part("payload").map(Value::to_string);
    let row = Pending {
        seq: 1,
        id: Uuid::nil(),
        event_type: name("type"),
        aggregate_type: name("aggregate_type"),
        aggregate_id: name("aggregate_id"),
        payload_bytes: payload.as_ref().map_or(0, String::len),
        payload,
        metadata: part("metadata").map(Value::to_string),
        version: part("version").and_then(Value::as_i64).and_then(|version| i32::try_from(version).ok()),
        created_at: part("created_at").map(Value::to_string),
        project_id: None,
        revision: part("revision").and_then(Value::as_i64).and_then(|revision| i32::try_from(revision).ok()),
        excess: None,
        seal_key: vec![7; 32],
    };
    let message = envelope::message(&row).map_err(|error| text(&error))?;
    assert!(Event::parse(&message.body).is_ok(), "a message that no agent could read");
    Ok(())
}

fn batches() -> Vec<String> {
    let records = |bodies: &[String]| {
        let records = bodies.iter().enumerate().map(|(n, body)| {
            serde_json::json!({
                "messageId": n.to_string(), "receiptHandle": "handle", "body": body, "attributes": { "ApproximateReceiveCount": "1" },
                "messageAttributes": { "run": { "stringValue": "0", "dataType": "Number", "stringListValues": [], "binaryListValues": [] } },
                "eventSource": "aws:sqs" })
        });
        serde_json::json!({ "Records": records.collect::<Vec<_>>() }).to_string()
    };
    vec![records(&events()), records(&[]), records(&["{".into(), SECRET.into()])]
}

fn batch(input: &str) -> Result<(), String> {
    let batch = serde_json::from_str(input).and_then(lambda::messages).map_err(|_| "no batch".to_owned())?;
    for message in batch {
        let _ = (Event::id_of(&message.body), Event::parse(&message.body));
    }
    Ok(())
}

/// Sixteen characters, as the shortest that is taken.
const SIGNED_WITH: &str = "0123456789abcdef";

fn webhooks() -> Vec<String> {
    let headers =
        r#"{"x-switchyard-timestamp":"1000","x-switchyard-signature":"v1=00","content-type":"application/json"}"#;
    let of = |method: &str, body: &str, encoded: bool| {
        format!(
            r#"{{"version":"2.0","headers":{headers},"body":"{body}","isBase64Encoded":{encoded},"requestContext":{{"http":{{"method":"{method}"}}}}}}"#
        )
    };
    vec![of("POST", SECRET, false), of("POST", "aHVudGVyMg==", true), of("GET", "", false), "{}".into()]
}

/// Accepted here is a request as such: the signature is another target's.
fn webhook(input: &str) -> Result<(), String> {
    let event: Value = serde_json::from_str(input).map_err(|_| "no JSON".to_owned())?;
    let request = shim::Request::of(&event).map_err(|unreadable| unreadable.body)?.ok_or("no request")?;
    let secrets = shim::Secrets::parse(SIGNED_WITH).ok_or("no secret")?;
    match request.admit(Some(&secrets), 1_000) {
        Ok(()) => panic!("nobody has signed this"),
        Err(answer) if answer.status_code == 401 => Ok(()),
        Err(answer) => Err(answer.body),
    }
}

fn signatures() -> Vec<String> {
    let secrets = [SIGNED_WITH.to_owned(), format!("{SIGNED_WITH},{SIGNED_WITH}x"), format!(r#"["{SIGNED_WITH}"]"#)];
    secrets.into_iter().map(|secrets| format!("{secrets}\n1000\nv1=00\n{SECRET}")).collect()
}

/// Secrets, timestamp, signature and body, a line each. Accepted here are secrets that are some.
fn signature(input: &str) -> Result<(), String> {
    let mut lines = input.splitn(4, '\n');
    let secrets = shim::Secrets::parse(lines.next().unwrap_or_default()).ok_or(shim::Secrets::EXPECTED)?;
    let (timestamp, signature, body) = (lines.next(), lines.next(), lines.next().unwrap_or_default());
    let verified = secrets.verify(1_000, timestamp, signature, body.as_bytes());
    assert!(verified.is_err_and(|error| error.to_string().len() < 200), "nobody has signed this");
    Ok(())
}

fn steward_requests() -> Vec<String> {
    [
        "{}",
        r#"{"action":"pass"}"#,
        r#"{"action":"status"}"#,
        r#"{"action":"breaker","agent":"duplicate","set":"open","operator":"ada"}"#,
        r#"{"source":"aws.events","detail":{}}"#,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn steward_request(input: &str) -> Result<(), String> {
    let event: Value = serde_json::from_str(input).map_err(|_| "no JSON".to_owned())?;
    // It has no payload: what it repeats are names that its own caller has used.
    switchyard_operations::steward::Request::parse(&event).map(drop).map_err(|error| error.replace(SECRET, ""))
}

fn redrive_requests() -> Vec<String> {
    [
        r#"{"action":"list"}"#,
        r#"{"action":"inspect","agent":"duplicate","selection":{"types":["feedback.created"]},"at_most":10}"#,
        r#"{"action":"redrive","agent":"duplicate","selection":{"events":["6f1e8f5e-2f2a-4c1e-9a51-0d6f3f1f0a01"]},"dry_run":true,"operator":"ada"}"#,
        r#"{"action":"progress","agent":"duplicate"}"#,
        r#"{"action":"edit","agent":"duplicate","event_id":"6f1e8f5e-2f2a-4c1e-9a51-0d6f3f1f0a01","payload":"{\"a\":\"hunter2-hunter2\"}","operator":"ada","reason":"r"}"#,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn redrive_request(input: &str) -> Result<(), String> {
    let event: Value = serde_json::from_str(input).map_err(|_| "no JSON".to_owned())?;
    let mut names = event.clone();
    if let Some(fields) = names.as_object_mut() {
        fields.remove("payload");
    }
    // A name that its own caller has used may be repeated; what stands in the payload alone may not.
    let is_a_name = names.to_string().contains(SECRET);
    switchyard_operations::redrive::Request::parse(event)
        .map(drop)
        .map_err(|error| if is_a_name { error.replace(SECRET, "") } else { error })
}

fn ingested(input: &str) -> Result<(), String> {
    let row = ingest::row(input, 16).map_err(|refused| format!("{}: {}", refused.reason, refused.error))?;
    assert!(Metadata::parse(&row.metadata).is_ok(), "a row whose metadata no agent could read");
    Ok(())
}

fn addresses() -> Vec<String> {
    [
        "postgresql://me:hunter2-hunter2@db.example:6543/app?pgbouncer=true&sslmode=verify-full",
        "postgres://me@127.0.0.1/db",
        "host=127.0.0.1 user=me password=hunter2-hunter2 dbname=app",
        "mysql://me:hunter2-hunter2@h/db",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn address(input: &str) -> Result<(), String> {
    let address: DatabaseUrl = input.parse().map_err(|error| format!("{error} {error:?}"))?;
    // A password is what the driver takes for one: in an address that is broken it may as well stand where a host belongs.
    let (bare, parameters) = input.split_once('?').unwrap_or((input, ""));
    let config: Option<tokio_postgres::Config> = bare.parse().ok();
    let is_a_password = config.is_some_and(|config| {
        let named = format!("{:?} {:?}", config.get_hosts(), config.get_dbname());
        config.get_password().is_some() && !named.contains("hunter2") && !parameters.contains("hunter2")
    });
    assert!(!is_a_password || !format!("{address:?}").contains("hunter2"), "printing it shows the password");
    Ok(())
}
