//! An agent that does what its events say, registered in a database of its own, with queues in memory.

use serde::{Deserialize, Serialize};
use std::{cell::Cell, collections::BTreeMap, future::pending, time::Duration};
use switchyard_agent::{Agent, Change, Decision, Refusal, Reject, State};
use switchyard_bus::{MemoryQueues, Message as BusMessage};
use switchyard_event::{Event, EventType, NewEvent};
use switchyard_runtime::{Answer, Budget, Message, Tx, Type, Worker, envelope};
use switchyard_store::{AgentSpec, Known, Mode, Overdue, Page, RoutedBy, Since, Store};
use switchyard_tests::Database;
use tokio::{sync::Notify, time::Instant};
use tokio_postgres::Client;
use uuid::Uuid;

/// Does what its events say.
#[derive(Default)]
pub(crate) struct Obedient {
    /// Whether the model that it asks is down, whatever the events say.
    pub(crate) model_is_down: Cell<bool>,
    /// How often it was asked to gather.
    pub(crate) gathered: Cell<u32>,
    /// Told when an event is about to kill the process.
    pub(crate) dying: Notify,
    /// Told when an event waits for the first time, and what lets it go.
    pub(crate) waiting: Notify,
    pub(crate) go_on: Notify,
    has_waited: Cell<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
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
        self.gathered.set(self.gathered.get() + 1);
        if self.model_is_down.get() {
            return Err(Refusal::Unavailable("the model is down".into()));
        }
        match event.decode::<Order>()?.gather.as_deref() {
            Some("retry") => Err(Refusal::retry("told to")),
            Some("panic") => panic!("told to"),
            Some("hang") => pending().await,
            Some("kill") => {
                self.dying.notify_one();
                pending().await
            }
            Some("wait once") => {
                if !self.has_waited.replace(true) {
                    self.waiting.notify_one();
                    self.go_on.notified().await;
                }
                Ok(())
            }
            Some("supersede") => Err(Refusal::Superseded),
            Some("be out of luck") => Err(Refusal::DatabaseDown("told to".into())),
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

    fn overwrites(order: &Order) -> Option<State> {
        (order.apply.as_deref() == Some("overwrite")).then(|| State::new("order", &order.key))
    }

    async fn apply(change: Change<'_, Order>, tx: &mut Tx) -> Result<Vec<NewEvent>, Refusal> {
        let order = change.effect;
        assert_eq!(change.event.metadata.sequence, Some(change.sequence), "the event's place in the log");
        tx.execute("insert into done values ($1, $2)", &[(&order.key, Type::TEXT), (&order.sequence, Type::INT8)])
            .await?;
        match order.apply.as_deref() {
            Some("retry") => Err(Refusal::retry("told to")),
            Some("panic") => panic!("told to"),
            Some("supersede") => Err(Refusal::Superseded),
            Some("lose the connection") => {
                tx.query("select pg_terminate_backend(pg_backend_pid())", &[]).await.map(|_| Vec::new())
            }
            Some("wait for ever") => tx.query("select pg_sleep(600)", &[]).await.map(|_| Vec::new()),
            _ => Ok(Vec::new()),
        }
    }
}

/// A database with the agent registered, and its queues.
pub(crate) struct RuntimeWorld {
    pub(crate) agent: Obedient,
    pub(crate) store: Store,
    pub(crate) client: Client,
    pub(crate) queues: MemoryQueues,
    pub(crate) database: Database,
}

impl RuntimeWorld {
    pub(crate) async fn new(mode: Mode) -> Self {
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
        store.register(&spec, mode, Since::Now).await.unwrap();
        Self { agent: Obedient::default(), store, client, queues: MemoryQueues::default(), database }
    }

    /// Appends one event for each order and returns the bodies, in order.
    pub(crate) async fn give(&self, orders: &[serde_json::Value]) -> Vec<String> {
        let mut bodies = Vec::new();
        for order in orders {
            let id = Uuid::new_v4();
            let insert = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                          values ($1, 'order.given', 'order', gen_random_uuid(), $2::text::jsonb, '{}', 1)";
            self.client.execute(insert, &[&id, &order.to_string()]).await.unwrap();
            let seq = "select seq from switchyard.event_log where event_id = $1";
            let seq: i64 = self.client.query_one(seq, &[&id]).await.unwrap().get(0);
            let row = self.store.events(&[seq]).await.unwrap().remove(0);
            bodies.push(envelope::message(&row).unwrap().body);
        }
        bodies
    }

    /// A process of the agent.
    pub(crate) fn worker(&self) -> Worker<'_, Obedient, MemoryQueues> {
        Worker::new(&self.agent, &self.store, &self.queues, Budget::DEFAULT)
    }

    /// One batch through the layers of a process that has just started: the places of the records that must come again.
    pub(crate) async fn handle(&self, bodies: &[String], time: Duration) -> Vec<usize> {
        again(self.worker().handle(batch(bodies, 1), Instant::now() + time).await)
    }

    /// The same for messages that have been received so often. `None` where the process died of it.
    pub(crate) async fn handle_received(&self, bodies: &[String], receives: u32, time: Duration) -> Option<Vec<usize>> {
        let worker = self.worker();
        tokio::select! {
            biased;
            () = self.agent.dying.notified() => None,
            answer = worker.handle(batch(bodies, receives), Instant::now() + time) => Some(again(answer)),
        }
    }

    pub(crate) async fn count(&self, what: &str) -> i64 {
        self.client.query_one(&format!("select count(*) from {what}"), &[]).await.unwrap().get(0)
    }

    /// The states of the deliveries, in the order of the log.
    pub(crate) async fn states(&self) -> String {
        let sql = "select coalesce(string_agg(state::text, '' order by seq), '') from switchyard.delivery";
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// The reasons of what is in the dead-letter queue.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let dead_letters = self.queues.dead_letters();
        dead_letters.iter().filter_map(|letter| letter.attribute("reason").map(str::to_owned)).collect()
    }
}

/// Time enough for anything.
pub(crate) const PLENTY: Duration = Duration::from_secs(60);

/// Messages as a queue delivers them, each with its place for a name.
pub(crate) fn batch(bodies: &[String], receives: u32) -> Vec<Message> {
    let message = |(at, body): (usize, &String)| Message { receives, ..message(at, body) };
    bodies.iter().enumerate().map(message).collect()
}

fn message(at: usize, body: &str) -> Message {
    Message::new(at.to_string(), at.to_string(), body)
}

/// The places of the messages that are delivered again.
pub(crate) fn again(answers: Vec<Answer>) -> Vec<usize> {
    answers.iter().enumerate().filter(|(_, answer)| answer.is_redelivery()).map(|(at, _)| at).collect()
}

/// Messages of ours as the queue delivers them, attributes included.
pub(crate) fn delivered(messages: &[BusMessage]) -> Vec<Message> {
    let delivered = |(at, sent): (usize, &BusMessage)| {
        let of = |name: &str| Some((name.to_owned(), sent.attribute(name)?.to_owned()));
        Message { attributes: ["run", "epoch"].into_iter().filter_map(of).collect(), ..message(at, &sent.body) }
    };
    messages.iter().enumerate().map(delivered).collect()
}

/// What a store hands out as due to an agent's queue.
pub(crate) async fn due(store: &Store, agent: &str) -> Vec<BusMessage> {
    let due = store.due(agent, 100, Overdue::Now).await.unwrap();
    let events = store.events(&due.iter().map(|due| due.seq).collect::<Vec<_>>()).await.unwrap();
    due.iter()
        .zip(&events)
        .map(|(due, event)| envelope::delivery(event, due.run, due.epoch, jiff::Timestamp::now()).unwrap())
        .collect()
}

/// What the shim would publish: every event of the outbox, which is empty afterwards.
pub(crate) async fn published(store: &Store) -> Vec<BusMessage> {
    let mut messages = Vec::new();
    loop {
        let pending = store.pending(&Known::default(), Page::of(1_000)).await.unwrap();
        if pending.is_empty() {
            return messages;
        }
        store.published(&pending.iter().map(|event| event.seq).collect::<Vec<_>>()).await.unwrap();
        messages.extend(pending.iter().map(|event| envelope::message(event).unwrap()));
    }
}

/// Orders, each with one step.
pub(crate) fn orders<const N: usize>(list: [(&str, &str); N]) -> Vec<serde_json::Value> {
    let order = |(step, what): (&str, &str)| {
        let mut order = BTreeMap::from([("key", "k")]);
        order.insert(step, what);
        serde_json::json!(order)
    };
    list.into_iter().map(order).collect()
}
