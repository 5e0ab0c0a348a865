//! Another application altogether: a model registry. Its events stand in a table of another name, with ids that are text, and have neither
//! projects nor metadata. Nothing but the agent's own folder and its block of the template knows of it.

use aws_sdk_sqs::types::QueueAttributeName;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use switchyard_agent::{Agent, Change, Decision, Refusal, Reject};
use switchyard_bus::MemoryQueues;
use switchyard_event::{Event, EventType, NewEvent};
use switchyard_runtime::{Answer, Message, Tx, Type, envelope};
use switchyard_store::{AgentSpec, EventsTable, Mode, RoutedBy, Since};
use switchyard_tests::{World, eventually};
use tokio::time::Instant;
use uuid::Uuid;

const MODEL_EVALUATED: EventType = EventType::named("model.evaluated");

/// What the registry has before the installation.
const REGISTRY: &str = "
    create schema registry;
    create table registry.happening (
        happening_id uuid primary key,
        what text not null,
        model text not null,
        body json not null,
        at timestamptz not null default now());
    create table archive (model text not null, metric text not null, value double precision not null);";

/// Where its events are. There is no column for the aggregate's type, for metadata or for the payload's version.
const EVENTS: &str = r#"{ "schema": "registry", "table": "happening",
    "columns": { "id": "happening_id", "type": "what", "aggregate_id": "model", "payload": "body", "created_at": "at" } }"#;

/// Better is less for one, more for the other.
const BASELINES: &str = "
    insert into model_baselines (token_symbol, metric, baseline, higher_is_better)
    values ('BTC', 'rmse', 0.05, false), ('BTC', 'accuracy', 0.9, true);";

/// A registry with the agent deployed, and a second consumer that knows nothing of the first.
async fn registry() -> World {
    let tables = [REGISTRY, include_str!("../../functions/agents/baseline-validation/tables.sql"), BASELINES].concat();
    let world = World::of_another_application(&tables, &EventsTable::parse(EVENTS).unwrap()).await;
    let archivist = AgentSpec {
        name: Archivist::NAME.into(),
        subscribes: vec![MODEL_EVALUATED.to_string()],
        routed_by: RoutedBy::Aggregate,
        max_attempts: 4,
    };
    world.store.register(&archivist, Mode::Full, Since::Now).await.unwrap();
    world
}

/// The registry's own insert.
async fn evaluated(world: &World, model: &str, metric: &str, value: f64) -> Uuid {
    let id = Uuid::new_v4();
    let body = json!({ "model_id": model, "token_symbol": "BTC", "metric": metric, "value": value });
    insert(world, id, model, &body).await;
    id
}

async fn insert(world: &World, id: Uuid, model: &str, body: &Value) {
    let insert =
        "insert into registry.happening (happening_id, what, model, body) values ($1, 'model.evaluated', $2, $3)";
    world.database.execute(insert, &[&id, &model, body]).await.unwrap();
}

/// What the agent has said: model and payload, in the order in which it was logged.
async fn said(world: &World) -> Vec<(String, Value)> {
    let sql =
        "select h.model, h.body from registry.happening h join switchyard.event_log l on l.event_id = h.happening_id
                where h.what = 'model.ready_to_deploy' order by l.seq";
    let rows = world.database.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// What the agent has judged of a model by a metric: the value, and whether it passed.
async fn judged(world: &World, model: &str, metric: &str) -> Option<(f64, bool)> {
    let sql = "select value, passed from model_validations where model_id = $1 and metric = $2";
    let rows = world.database.query(sql, &[&model, &metric]).await.unwrap();
    rows.first().map(|row| (row.get(0), row.get(1)))
}

/// Waits until every delivery of the agent has come to its end, and returns their states in the order of the log.
async fn states(world: &World, agent: &str, expected: usize) -> String {
    let sql = "select coalesce(string_agg(d.state::text, '' order by d.seq), '') from switchyard.delivery d
                 join switchyard.agent a on a.id = d.agent where a.name = $1 and d.state not in ('a', 'f')";
    eventually(&format!("{expected} deliveries of {agent} at their end"), async || {
        let states: String = world.database.query_one(sql, &[&agent]).await.unwrap().get(0);
        (states.len() == expected).then_some(states)
    })
    .await
}

#[tokio::test]
async fn a_model_that_beats_its_baseline_is_ready_once_and_one_that_does_not_is_not() {
    let world = registry().await;
    let archivist = Consumer::of(&world).await;
    world.wake_shim();

    // What people can send by hand is what the registry writes.
    for sample in [
        include_str!("../../functions/agents/baseline-validation/events/better-forecast.json"),
        include_str!("../../functions/agents/baseline-validation/events/worse-forecast.json"),
    ] {
        let event = Event::parse(sample).unwrap();
        insert(&world, event.id, &event.aggregate_id, &serde_json::from_str(event.payload()).unwrap()).await;
    }
    evaluated(&world, "btc-forecast/2026-11-20", "accuracy", 0.9).await;
    evaluated(&world, "btc-forecast/2026-11-20", "latency", 12.0).await;
    archivist.works_until_it_has_done(&world, 4).await;

    assert_eq!(states(&world, "baseline-validation", 4).await, "dddp");
    let ready = json!({
        "model_id": "btc-forecast/2026-11-20", "token_symbol": "BTC", "metric": "rmse", "value": 0.0431, "baseline": 0.05,
    });
    assert_eq!(said(&world).await, [("btc-forecast/2026-11-20".to_owned(), ready)]);
    assert_eq!(judged(&world, "btc-forecast/2026-11-20", "rmse").await, Some((0.0431, true)));
    assert_eq!(judged(&world, "btc-forecast/2026-11-21", "rmse").await, Some((0.0617, false)));
    assert_eq!(judged(&world, "btc-forecast/2026-11-20", "accuracy").await, Some((0.9, false)), "a tie is no reason");
    assert_eq!(judged(&world, "btc-forecast/2026-11-20", "latency").await, None);

    // Each consumer has a ledger of its own: what one has parked the other has done.
    assert_eq!(states(&world, Archivist::NAME, 4).await, "dddd");
    assert_eq!(world.count("select count(*) from archive").await, 4);
    // Neither projects nor ids that are UUIDs were made up on the way.
    let made_up = "select count(*) from switchyard.event_log where project_id is not null or aggregate_id not like 'btc-forecast/%'";
    assert_eq!(world.count(made_up).await, 0);

    // The baseline that was missing is set, and the evaluation that was parked for it goes back.
    world.database.batch_execute("insert into model_baselines values ('BTC', 'latency', 20, false)").await.unwrap();
    let reason = "select reason from switchyard.failure where parked";
    assert_eq!(world.database.query_one(reason, &[]).await.unwrap().get::<_, String>(0), "no_baseline");
    let request = json!({
        "action": "redrive", "agent": "baseline-validation", "operator": "ada", "selection": { "reasons": ["no_baseline"] },
    });
    world.call("redrive", &request);
    assert_eq!(states(&world, "baseline-validation", 4).await, "dddd");
    let metrics: Vec<_> = said(&world).await.into_iter().map(|(_, payload)| payload["metric"].clone()).collect();
    assert_eq!(metrics, ["rmse", "latency"]);
    assert_eq!(world.count("select count(*) from archive").await, 4, "a redrive is to one agent");
}

#[tokio::test]
async fn a_repeated_or_late_evaluation_emits_nothing() {
    let world = registry().await;
    world.deaf("BaselineValidation").await;
    let model = "btc-forecast/2026-11-22";
    let older = evaluated(&world, model, "rmse", 0.01).await;
    let newer = evaluated(&world, model, "rmse", 0.02).await;
    let (older, newer) = (body(&world, older).await, body(&world, newer).await);

    for bodies in [[newer.clone()], [newer], [older]] {
        assert_eq!(world.handle("baseline-validation", &bodies), [""; 0]);
    }

    assert_eq!(states(&world, "baseline-validation", 2).await, "sd");
    assert_eq!(judged(&world, model, "rmse").await, Some((0.02, true)));
    let said: Vec<_> = said(&world).await.into_iter().map(|(_, payload)| payload["value"].clone()).collect();
    assert_eq!(said, [0.02]);
}

/// An event as its message has it.
async fn body(world: &World, id: Uuid) -> String {
    let seq = "select l.seq from switchyard.event_log l where l.event_id = $1";
    let seq: i64 = world.database.query_one(seq, &[&id]).await.unwrap().get(0);
    envelope::message(&world.store.events(&[seq]).await.unwrap().remove(0)).unwrap().body
}

/// The second consumer: keeps every evaluation, whatever the first makes of it.
struct Archivist;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    model_id: String,
    metric: String,
    value: f64,
}

impl Agent for Archivist {
    const NAME: &'static str = "archivist";
    const SUBSCRIBES: &'static [EventType] = &[MODEL_EVALUATED];

    type Facts = ();
    type Effect = Kept;
    type Tx = Tx;

    async fn gather(&self, _: &Event) -> Result<(), Refusal> {
        Ok(())
    }

    fn decide(event: &Event, (): &()) -> Result<Decision<Kept>, Reject> {
        Ok(Decision::nothing().effect(event.decode::<Kept>()?))
    }

    async fn apply(change: Change<'_, Kept>, tx: &mut Tx) -> Result<Vec<NewEvent>, Refusal> {
        let kept = change.effect;
        let parameters: [(&(dyn switchyard_runtime::ToSql + Sync), Type); 3] =
            [(&kept.model_id, Type::TEXT), (&kept.metric, Type::TEXT), (&kept.value, Type::FLOAT8)];
        tx.execute("insert into archive values ($1, $2, $3)", &parameters).await?;
        Ok(Vec::new())
    }
}

/// The second consumer at work: a queue of its own on the stack's topic, and the runtime that every agent has.
struct Consumer {
    queue: String,
}

impl Consumer {
    async fn of(world: &World) -> Self {
        let made = world.sqs.create_queue().queue_name(Archivist::NAME).send().await.unwrap();
        let queue = made.queue_url.unwrap();
        let name = QueueAttributeName::QueueArn;
        let asked = world.sqs.get_queue_attributes().queue_url(&queue).attribute_names(name.clone()).send().await;
        let arn = asked.unwrap().attributes.unwrap().remove(&name).unwrap();
        let subscribe = world.sns.subscribe().topic_arn(&world.outputs["TopicArn"]).protocol("sqs").endpoint(arn);
        let filter = json!({ "event_type": [MODEL_EVALUATED.to_string()] }).to_string();
        let subscribe = subscribe.attributes("RawMessageDelivery", "true").attributes("FilterPolicy", filter);
        subscribe.send().await.unwrap();
        Self { queue }
    }

    async fn works_until_it_has_done(&self, world: &World, expected: i64) {
        let queues = MemoryQueues::default();
        eventually(&format!("{expected} evaluations in the archive"), async || {
            let received = world.sqs.receive_message().queue_url(&self.queue).max_number_of_messages(10).send().await;
            let messages = received.unwrap().messages.unwrap_or_default();
            let batch = messages.iter().enumerate().map(|(n, message)| {
                Message::new(n.to_string(), message.receipt_handle().unwrap(), message.body().unwrap())
            });
            let ends = Instant::now() + Duration::from_secs(30);
            let answers = switchyard_runtime::handle(&Archivist, &world.store, &queues, batch.collect(), ends).await;
            assert!(answers.iter().all(|answer| *answer == Answer::Acknowledge));
            for message in &messages {
                let delete = world.sqs.delete_message().queue_url(&self.queue);
                delete.receipt_handle(message.receipt_handle().unwrap()).send().await.unwrap();
            }
            (world.count("select count(*) from archive").await == expected).then_some(())
        })
        .await;
    }
}
