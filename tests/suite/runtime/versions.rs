//! Versions of a payload: older ones are brought up, newer ones wait for who knows them.

use super::world::{PLENTY, RuntimeWorld, again, delivered, due, published};
use std::cell::RefCell;
use switchyard_agent::{Agent, Decision, Refusal, Reject};
use switchyard_bus::{MemoryQueues, Message};
use switchyard_event::{Event, EventType, Upcast};
use switchyard_runtime::{Tx, handle};
use switchyard_store::{AgentSpec, Mode, RoutedBy, Selection, Since};
use tokio::time::Instant;
use uuid::Uuid;

/// Hears who is compared with us, in the version that `OLD` or the domain of today knows.
#[derive(Default)]
struct Watch<const OLD: bool> {
    heard: RefCell<Vec<(u32, String)>>,
}

impl<const OLD: bool> Agent for Watch<OLD> {
    const NAME: &'static str = "watch";
    const SUBSCRIBES: &'static [EventType] = &[switchyard_feedback::COMPETITOR_MENTIONED];
    const UPCASTS: &'static [Upcast] = if OLD { &[] } else { switchyard_feedback::UPCASTS };

    type Facts = ();
    type Effect = ();
    type Tx = Tx;

    async fn gather(&self, event: &Event) -> Result<(), Refusal> {
        self.heard.borrow_mut().push((event.version, event.payload().to_owned()));
        Ok(())
    }

    fn decide(_: &Event, (): &()) -> Result<Decision<()>, Reject> {
        Ok(Decision::nothing())
    }
}

/// A database in which a watch is registered.
async fn watched() -> RuntimeWorld {
    let world = RuntimeWorld::new(Mode::Full).await;
    let spec = AgentSpec {
        name: "watch".into(),
        subscribes: vec!["competitor.mentioned".into()],
        routed_by: RoutedBy::Aggregate,
        max_attempts: 2,
    };
    world.store.register(&spec, Mode::Full, Since::Now).await.unwrap();
    world
}

/// What the shim makes of an event with this payload and version.
async fn said(world: &RuntimeWorld, payload: &str, version: i32) -> Message {
    let insert = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                  values ($1, 'competitor.mentioned', 'post', gen_random_uuid(), $2::text::jsonb, '{}', $3)";
    world.client.execute(insert, &[&Uuid::new_v4(), &payload, &version]).await.unwrap();
    published(&world.store).await.remove(0)
}

async fn hears<const OLD: bool>(world: &RuntimeWorld, messages: &[Message]) -> Vec<(u32, String)> {
    let watch = Watch::<OLD>::default();
    let queues: &MemoryQueues = &world.queues;
    let answer = handle(&watch, &world.store, queues, delivered(messages), Instant::now() + PLENTY).await;
    assert!(again(answer).is_empty(), "done or parked");
    watch.heard.into_inner()
}

const ONE: &str = r#"{"post_id": "p", "competitor": "Acme"}"#;
const ALL: &str = r#"{"post_id": "p", "competitors": ["Acme", "Initech"]}"#;

#[tokio::test]
async fn an_agent_receives_every_version_as_the_newest() {
    let world = watched().await;
    let old = said(&world, ONE, 1).await;
    let new = said(&world, ALL, 2).await;

    let heard = hears::<false>(&world, &[old, new]).await;

    let payload = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!((heard[0].0, payload(&heard[0].1)["competitors"].clone()), (2, serde_json::json!(["Acme"])));
    assert_eq!((heard[1].0, payload(&heard[1].1)), (2, payload(ALL)));
}

#[tokio::test]
async fn a_version_from_the_future_is_parked_and_done_after_a_deploy_and_a_redrive() {
    let world = watched().await;
    let future = said(&world, ALL, 2).await;

    assert!(hears::<true>(&world, &[future]).await.is_empty());

    assert_eq!((world.reasons(), world.states().await), (vec!["unknown_version".to_owned()], "p".to_owned()));
    let selection = Selection { reasons: vec!["unknown_version".into()], ..Selection::default() };
    assert_eq!(
        world.store.redrive("watch", &selection, 0, "a person", "version 2 is deployed").await.unwrap().len(),
        1
    );
    let again = due(&world.store, "watch").await;
    assert_eq!(hears::<false>(&world, &again).await.len(), 1);
    assert_eq!(world.states().await, "d");
}

#[tokio::test]
async fn a_failed_upcast_is_parked_and_done_after_an_edit() {
    let world = watched().await;
    let broken = said(&world, r#"{"post_id": "p", "competitor": 7}"#, 1).await;
    assert!(hears::<false>(&world, std::slice::from_ref(&broken)).await.is_empty());
    assert_eq!((world.reasons(), world.states().await), (vec!["upcast_failed".to_owned()], "p".to_owned()));

    let id = Event::parse(&broken.body).unwrap().id;
    world.store.revise(id, ONE, "a person", "it was a number").await.unwrap();
    world.store.redrive("watch", &Selection::default(), 0, "a person", "edited").await.unwrap();
    let again = due(&world.store, "watch").await;

    assert_eq!(Event::parse(&again[0].body).unwrap().metadata.revision, Some(1));
    assert_eq!(hears::<false>(&world, &again).await.len(), 1);
    assert_eq!(world.states().await, "d");
}
