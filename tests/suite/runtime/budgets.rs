//! Chains of events that cause each other: A says what B hears, B says what A hears.

use super::world::{PLENTY, RuntimeWorld, again, delivered, due, published};
use switchyard_agent::{Agent, Decision, Refusal, Reject};
use switchyard_bus::Message;
use switchyard_event::{Event, EventType, NewEvent};
use switchyard_runtime::{Tx, handle};
use switchyard_store::{AgentSpec, Ask, Mode, ParkReport, RoutedBy, Selection, Since};
use tokio::time::Instant;
use uuid::Uuid;

/// Answers every ball with a ball: what one of the two says, the other hears.
struct Player<const SECOND: bool>;

const SERVED: EventType = EventType::named("ball.served");
const RETURNED: EventType = EventType::named("ball.returned");

impl<const SECOND: bool> Agent for Player<SECOND> {
    const NAME: &'static str = if SECOND { "second-player" } else { "first-player" };
    const SUBSCRIBES: &'static [EventType] = if SECOND { &[RETURNED] } else { &[SERVED] };

    type Facts = ();
    type Effect = ();
    type Tx = Tx;

    async fn gather(&self, _: &Event) -> Result<(), Refusal> {
        Ok(())
    }

    fn decide(event: &Event, (): &()) -> Result<Decision<()>, Reject> {
        let kind = if SECOND { SERVED } else { RETURNED };
        let said = NewEvent::new(kind, "ball", &event.aggregate_id, &serde_json::json!({}))?;
        Ok(Decision::nothing().event(said))
    }
}

/// A database in which the two are registered, and the first ball is served with this metadata.
async fn served(metadata: &str) -> RuntimeWorld {
    let world = RuntimeWorld::new(Mode::Full).await;
    for (name, hears) in [("first-player", "ball.served"), ("second-player", "ball.returned")] {
        let (routed_by, max_attempts) = (RoutedBy::Aggregate, 2);
        let spec = AgentSpec { name: name.into(), subscribes: vec![hears.into()], routed_by, max_attempts };
        world.store.register(&spec, Mode::Full, Since::Now).await.unwrap();
    }
    let insert = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                  values ($1, 'ball.served', 'ball', gen_random_uuid(), '{}', $2::text::jsonb, 1)";
    world.client.execute(insert, &[&Uuid::new_v4(), &metadata]).await.unwrap();
    world
}

/// Gives each message to the player who hears it.
async fn heard(world: &RuntimeWorld, messages: &[Message]) {
    for message in messages {
        let event = delivered(std::slice::from_ref(message));
        let ends = Instant::now() + PLENTY;
        let answer = if message.body.contains("ball.served") {
            handle(&Player::<false>, &world.store, &world.queues, event, ends).await
        } else {
            handle(&Player::<true>, &world.store, &world.queues, event, ends).await
        };
        assert!(again(answer).is_empty());
    }
}

/// Carries what is said to who hears it until nothing is said any more, and returns how many events that were.
async fn play(world: &RuntimeWorld) -> usize {
    let mut events = 0;
    loop {
        let messages = published(&world.store).await;
        if messages.is_empty() {
            return events;
        }
        events += messages.len();
        assert!(events < 100, "nothing stops them");
        heard(world, &messages).await;
    }
}

#[tokio::test]
async fn two_agents_that_answer_each_other_stop_at_the_limit_and_the_chain_is_parked_once() {
    let world = served("{}").await;

    // The first, sixteen hops that are handled, and the one that is parked.
    assert_eq!(play(&world).await, 18);

    assert_eq!(world.reasons(), ["too_many_hops"]);
    let row = world.client.query_one("select reason, error, component from switchyard.failure", &[]).await.unwrap();
    let (reason, error, agent): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    assert_eq!((reason.as_str(), agent.as_str()), ("too_many_hops", "second-player"));
    assert!(error.starts_with("17 events stand before it, and 16 are allowed: ball.served about "), "{error}");
    assert_eq!(error.matches(" -> ").count(), 17, "the whole chain: {error}");
    let letter = &world.queues.dead_letters()[0];
    heard(&world, std::slice::from_ref(letter)).await;
    assert_eq!(world.queues.dead_letters().len(), 1, "a copy of it is acknowledged");
}

#[tokio::test]
async fn a_redriven_event_is_not_stopped_and_what_follows_has_a_budget_of_its_own() {
    let world = served("{}").await;
    play(&world).await;

    let redriven =
        world.store.redrive("second-player", &Selection::default(), 0, "a person", "once more").await.unwrap();
    assert_eq!(redriven.len(), 1);
    heard(&world, &due(&world.store, "second-player").await).await;

    assert_eq!(world.count("switchyard.delivery where state = 'p'").await, 0);
    let hops = "select (metadata->>'hops')::bigint from events e join switchyard.event_log l on l.event_id = e.id order by l.seq desc limit 1";
    assert_eq!(world.client.query_one(hops, &[]).await.unwrap().get::<_, i64>(0), 1);
    assert_eq!(play(&world).await, 17, "and stops again, from the first hop on");
    assert_eq!(world.reasons(), ["too_many_hops"; 2]);
}

#[tokio::test]
async fn a_replay_is_not_stopped_either_and_says_nothing_anew() {
    let world = served(r#"{"hops": 17, "started_at": "2020-01-01T00:00:00Z"}"#).await;
    assert_eq!(play(&world).await, 1);
    assert_eq!(world.reasons(), ["too_many_hops"]);
    world.store.redrive("first-player", &Selection::default(), 0, "a person", "meant so").await.unwrap();
    heard(&world, &due(&world.store, "first-player").await).await;
    play(&world).await;
    let parked = world.queues.dead_letters().len();

    let run = world.store.new_run("first-player", "looking again").await.unwrap();
    let first: i64 = world.client.query_one("select min(seq) from switchyard.event_log", &[]).await.unwrap().get(0);
    assert_eq!(world.store.resend("first-player", &[first], run, "looking again").await.unwrap().added, 1);
    heard(&world, &due(&world.store, "first-player").await).await;

    assert_eq!(world.count("switchyard.delivery where run > 0 and state = 'd'").await, 1);
    assert_eq!((play(&world).await, world.queues.dead_letters().len()), (0, parked));
}

#[tokio::test]
async fn a_chain_that_goes_on_for_longer_than_a_day_is_parked() {
    let world =
        served(r#"{"hops": 8, "started_at": "2020-01-01T00:00:00Z", "timestamp": "2020-01-01T20:00:00Z"}"#).await;

    // The one of that day is handled; what it causes is said years later.
    assert_eq!(play(&world).await, 2);

    assert_eq!(world.reasons(), ["chain_too_old"]);
}

#[tokio::test]
async fn waiting_does_not_count_towards_a_chain_s_time() {
    let said = r#"{"hops": 1, "correlation_id": "c", "timestamp": "2020-01-01T00:00:00Z"}"#;
    let world = served(said).await;

    // The first is handled years after it was said, and what it causes says that the chain is that old.
    play(&world).await;

    let old = world.count("events where metadata->>'started_at' = '2020-01-01T00:00:00Z'").await;
    assert!(old > 5, "{old}");
    let hops = "select (max(metadata->>'hops')::bigint) from events where (metadata->>'hops')::bigint < 10";
    assert_eq!(world.client.query_one(hops, &[]).await.unwrap().get::<_, i64>(0), 9, "more than a few hops, and it is");
    assert_eq!(world.reasons(), ["chain_too_old"]);
}

#[tokio::test]
async fn an_event_within_its_budget_that_was_sent_again_does_not_lift_it() {
    let world = served(r#"{"hops": 3}"#).await;
    let id: Uuid = world.client.query_one("select id from events", &[]).await.unwrap().get(0);
    published(&world.store).await;
    let report = ParkReport { ask: Ask::live(id), reason: "attempts_used_up".into(), error: "told to".into() };
    world.store.park("first-player", &[report]).await.unwrap();
    world.store.redrive("first-player", &Selection::default(), 0, "a person", "once more").await.unwrap();

    heard(&world, &due(&world.store, "first-player").await).await;

    let hops = "select (metadata->>'hops')::bigint from events where type = 'ball.returned'";
    assert_eq!(world.client.query_one(hops, &[]).await.unwrap().get::<_, i64>(0), 4);
}

#[tokio::test]
async fn a_first_event_from_years_ago_is_no_old_chain_and_neither_is_one_that_waited_on_purpose() {
    for metadata in [
        r#"{"timestamp": "2020-01-01T00:00:00Z"}"#,
        r#"{"hops": 3, "started_at": "2020-01-01T00:00:00Z", "deliver_at": "2099-01-01T00:00:00Z"}"#,
    ] {
        let world = served(metadata).await;
        world.client.batch_execute("update switchyard.outbox set due_at = null").await.unwrap();
        play(&world).await;
        assert_eq!(world.reasons(), ["too_many_hops"], "the seventeenth hop, and no age");
    }
}
