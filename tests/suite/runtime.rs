//! The runtime's layers with an agent that does what its events say, a real Postgres, and queues in memory.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, future::pending, time::Duration};
use switchyard_agent::{Agent, Decision, Refusal, Reject};
use switchyard_bus::MemoryQueues;
use switchyard_event::{Event, EventType, NewEvent};
use switchyard_runtime::{SqsEvent, Tx, Type, handle};
use switchyard_store::{AgentSpec, Mode, RoutedBy, Store};
use switchyard_tests::Database;
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

/// Does what its events say.
struct Obedient;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    gather: Option<String>,
    apply: Option<String>,
    #[serde(default)]
    key: String,
    #[serde(default)]
    sequence: i64,
}

impl Agent for Obedient {
    const NAME: &'static str = "obedient";
    const SUBSCRIBES: &'static [EventType] = &[EventType::named("order.given")];

    type Facts = ();
    type Effect = Order;
    type Tx = Tx;

    async fn gather(&self, event: &Event) -> Result<(), Refusal> {
        match event.decode::<Order>()?.gather.as_deref() {
            Some("retry") => Err(Refusal::retry("told to")),
            Some("panic") => panic!("told to"),
            Some("hang") => pending().await,
            Some("supersede") => Err(Refusal::Superseded),
            Some("be without the model") => Err(Refusal::Unavailable("the model is down".into())),
            _ => Ok(()),
        }
    }

    fn decide(event: &Event, (): &()) -> Result<Decision<Order>, Reject> {
        let mut order: Order = event.decode()?;
        if order.gather.as_deref() == Some("reject") {
            return Err(Reject::new("told_to", "the event says so"));
        }
        order.sequence = event.metadata.sequence.unwrap_or(0);
        Ok(Decision::nothing().effect(order))
    }

    async fn apply(order: &Order, tx: &mut Tx) -> Result<Vec<NewEvent>, Refusal> {
        if order.apply.as_deref() == Some("overwrite") {
            tx.newest(Self::NAME, "order", &order.key, order.sequence).await?;
        }
        tx.execute("insert into done values ($1, $2)", &[(&order.key, Type::TEXT), (&order.sequence, Type::INT8)])
            .await?;
        match order.apply.as_deref() {
            Some("retry") => Err(Refusal::retry("told to")),
            Some("panic") => panic!("told to"),
            Some("lose the connection") => {
                tx.query("select pg_terminate_backend(pg_backend_pid())", &[]).await.map(|_| Vec::new())
            }
            Some("wait for ever") => tx.query("select pg_sleep(600)", &[]).await.map(|_| Vec::new()),
            _ => Ok(Vec::new()),
        }
    }
}

/// A database with the agent registered, and its queues.
struct Bench {
    store: Store,
    client: Client,
    queues: MemoryQueues,
    _database: Database,
}

impl Bench {
    async fn new(mode: Mode) -> Self {
        let database = Database::migrated().await;
        let client = database.connect().await;
        client.batch_execute("create table done (key text, sequence bigint)").await.unwrap();
        let store = database.store();
        let spec = AgentSpec {
            name: Obedient::NAME.into(),
            subscribes: vec!["order.given".into()],
            routed_by: RoutedBy::Aggregate,
            max_attempts: 2,
        };
        store.register(&spec, mode).await.unwrap();
        Self { store, client, queues: MemoryQueues::default(), _database: database }
    }

    /// Appends one event for each order and returns the bodies, in order.
    async fn give(&self, orders: &[serde_json::Value]) -> Vec<String> {
        let mut bodies = Vec::new();
        for order in orders {
            let id = Uuid::new_v4();
            let insert = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                          values ($1, 'order.given', 'order', gen_random_uuid(), $2::text::jsonb, '{}', 1)";
            self.client.execute(insert, &[&id, &order.to_string()]).await.unwrap();
            let seq = "select seq from switchyard.event_log where event_id = $1";
            let seq: i64 = self.client.query_one(seq, &[&id]).await.unwrap().get(0);
            let body = serde_json::json!({
                "id": id, "type": "order.given", "aggregate_type": "order", "aggregate_id": "o", "payload": order, "version": 1,
                "metadata": { "timestamp": "2026-01-05T09:30:00Z", "sequence": seq },
            });
            bodies.push(body.to_string());
        }
        bodies
    }

    /// One batch through the layers: the places of the records that must come again.
    async fn handle(&self, bodies: &[String], time: Duration) -> Vec<usize> {
        let records = bodies.iter().enumerate().map(|(at, body)| {
            serde_json::json!({ "messageId": at.to_string(), "receiptHandle": at.to_string(), "body": body })
        });
        let event = serde_json::json!({ "Records": records.collect::<Vec<_>>() });
        let event: SqsEvent = serde_json::from_value(event).unwrap();
        let answer = handle(&Obedient, &self.store, &self.queues, event, Instant::now() + time).await;
        answer.batch_item_failures.iter().map(|failure| failure.item_identifier.parse().unwrap()).collect()
    }

    async fn count(&self, what: &str) -> i64 {
        self.client.query_one(&format!("select count(*) from {what}"), &[]).await.unwrap().get(0)
    }

    /// The states of the deliveries, in the order of the log.
    async fn states(&self) -> String {
        let sql = "select coalesce(string_agg(state::text, '' order by seq), '') from switchyard.delivery";
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// The reasons of what is in the dead-letter queue.
    fn reasons(&self) -> Vec<String> {
        let letters = self.queues.buried();
        letters.iter().filter_map(|letter| letter.attribute("reason").map(str::to_owned)).collect()
    }
}

const PLENTY: Duration = Duration::from_secs(60);

fn orders<const N: usize>(list: [(&str, &str); N]) -> Vec<serde_json::Value> {
    let order = |(step, what): (&str, &str)| {
        let mut order = BTreeMap::from([("key", "k")]);
        order.insert(step, what);
        serde_json::json!(order)
    };
    list.into_iter().map(order).collect()
}

#[tokio::test]
async fn every_kind_of_failure_takes_only_its_own_record() {
    let bench = Bench::new(Mode::Full).await;
    let list = [
        ("gather", "work"),
        ("gather", "retry"),
        ("gather", "panic"),
        ("gather", "reject"),
        ("gather", "supersede"),
        ("gather", "be without the model"),
        ("apply", "retry"),
        ("apply", "panic"),
        ("apply", "work"),
    ];
    let bodies = bench.give(&orders(list)).await;

    let again = bench.handle(&bodies, PLENTY).await;

    assert_eq!(again, [1, 2, 4, 5, 6, 7]);
    assert_eq!(bench.reasons(), ["told_to"]);
    assert_eq!(bench.count("done").await, 2, "what was refused has left nothing behind");
    // In the order of the log: done, failing, failing, parked, failing, untouched (no row yet), failing, failing, done.
    assert_eq!(bench.states().await, "dffpfffd");
    assert_eq!(bench.queues.held().len(), 6);
}

#[tokio::test]
async fn the_last_attempt_goes_to_the_dead_letter_queue_and_is_acknowledged() {
    let bench = Bench::new(Mode::Full).await;
    let bodies = bench.give(&orders([("gather", "retry"), ("apply", "panic")])).await;
    assert_eq!(bench.handle(&bodies, PLENTY).await, [0, 1]);
    assert!(bench.queues.buried().is_empty());

    assert!(bench.handle(&bodies, PLENTY).await.is_empty());

    assert_eq!(bench.reasons(), ["attempts_used_up", "attempts_used_up"]);
    let letter = &bench.queues.buried()[1];
    assert_eq!((letter.attribute("attempts"), letter.attribute("error")), (Some("2"), Some("panicked: told to")));
    assert_eq!(bench.states().await, "pp");
    assert!(bench.handle(&bodies, PLENTY).await.is_empty(), "a copy of what is parked is acknowledged");
    assert_eq!(bench.queues.buried().len(), 2);
}

#[tokio::test]
async fn who_gathers_for_too_long_is_returned_and_the_others_are_done() {
    let bench = Bench::new(Mode::Full).await;
    let bodies = bench.give(&orders([("gather", "hang"), ("gather", "work")])).await;

    let again = bench.handle(&bodies, Duration::from_secs(12)).await;

    assert_eq!((again, bench.count("done").await), (vec![0], 1));
    assert_eq!(bench.count("switchyard.failure").await, 0, "it costs no attempt");
}

#[tokio::test]
async fn a_commit_that_does_not_end_in_time_is_undone_and_returned_without_an_attempt() {
    let bench = Bench::new(Mode::Full).await;
    let bodies = bench.give(&orders([("apply", "wait for ever"), ("apply", "work")])).await;

    let again = bench.handle(&bodies, Duration::from_secs(12)).await;

    assert_eq!(again, [0, 1]);
    assert_eq!((bench.count("done").await, bench.count("switchyard.failure").await), (0, 0));
    assert!(bench.handle(&bodies[1..], PLENTY).await.is_empty(), "nothing is held any more");
    assert_eq!(bench.count("done").await, 1);
}

#[tokio::test]
async fn a_connection_that_is_lost_in_the_middle_costs_nobody_an_attempt() {
    let bench = Bench::new(Mode::Full).await;
    let bodies = bench.give(&orders([("apply", "work"), ("apply", "lose the connection"), ("apply", "work")])).await;

    let again = bench.handle(&bodies, PLENTY).await;

    assert!(again.contains(&1) && !again.contains(&0), "{again:?}");
    assert_eq!((bench.count("switchyard.failure").await, bench.queues.buried().len()), (0, 0));
    assert!(bench.handle(&bodies[2..], PLENTY).await.is_empty());
    assert_eq!(bench.count("done").await, 2, "each once");
}

#[tokio::test]
async fn shadow_stores_what_would_have_been_a_refusal_too_and_touches_nothing() {
    let bench = Bench::new(Mode::Shadow).await;
    let list = [("apply", "work"), ("gather", "retry"), ("gather", "reject"), ("gather", "panic")];
    let bodies = bench.give(&orders(list)).await;

    assert!(bench.handle(&bodies, PLENTY).await.is_empty());

    assert_eq!(bench.count("switchyard.shadow").await, 4);
    assert_eq!(bench.count("switchyard.shadow where decision::jsonb ? 'refused'").await, 3);
    assert_eq!((bench.count("done").await, bench.count("switchyard.failure").await), (0, 0));
    assert!(bench.queues.buried().is_empty(), "the old system's events fill no dead-letter queue");
}

#[tokio::test]
async fn of_two_events_in_one_batch_the_older_is_applied_first_and_alone_it_comes_too_late() {
    let bench = Bench::new(Mode::Full).await;
    let mut bodies =
        bench.give(&orders([("apply", "overwrite"), ("apply", "overwrite"), ("apply", "overwrite")])).await;
    let late = bodies.remove(0);
    bodies.reverse();

    assert!(bench.handle(&bodies, PLENTY).await.is_empty());
    assert_eq!(bench.states().await, "dd", "newest first in the batch, in order in the log");
    assert!(bench.handle(&[late], PLENTY).await.is_empty());

    assert_eq!(bench.states().await, "sdd");
    assert_eq!(bench.count("done").await, 2);
}

#[tokio::test]
async fn a_version_that_the_agent_does_not_know_is_parked_with_that_reason() {
    let bench = Bench::new(Mode::Full).await;
    let bodies = bench.give(&orders([("apply", "work")])).await;
    let newer = bodies[0].replace("\"version\":1", "\"version\":2");

    assert!(bench.handle(&[newer], PLENTY).await.is_empty());

    assert_eq!((bench.reasons(), bench.states().await), (vec!["unknown_version".to_owned()], "p".to_owned()));
}

#[tokio::test]
async fn what_no_agent_can_read_leaves_a_failure_behind_where_it_has_a_name() {
    let bench = Bench::new(Mode::Full).await;
    let bodies = bench.give(&orders([("apply", "work")])).await;
    let nul = bodies[0].replace("\"k\"", "\"\\u0000\"");

    assert!(bench.handle(&[nul], PLENTY).await.is_empty());

    assert_eq!((bench.reasons(), bench.states().await), (vec!["nul".to_owned()], "p".to_owned()));
    assert_eq!(bench.count("switchyard.failure where reason = 'nul'").await, 1);
}
