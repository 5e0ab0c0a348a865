//! Chains of events that cause each other: A says what B hears, B says what A hears.

use super::bench::{Bench, PLENTY, again, delivered, due, published};
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
async fn served(metadata: &str) -> Bench {
    let bench = Bench::new(Mode::Full).await;
    for (name, hears) in [("first-player", "ball.served"), ("second-player", "ball.returned")] {
        let (routed_by, max_attempts) = (RoutedBy::Aggregate, 2);
        let spec = AgentSpec { name: name.into(), subscribes: vec![hears.into()], routed_by, max_attempts };
        bench.store.register(&spec, Mode::Full, Since::Now).await.unwrap();
    }
    let insert = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                  values ($1, 'ball.served', 'ball', gen_random_uuid(), '{}', $2::text::jsonb, 1)";
    bench.client.execute(insert, &[&Uuid::new_v4(), &metadata]).await.unwrap();
    bench
}

/// Gives each message to the player who hears it.
async fn heard(bench: &Bench, messages: &[Message]) {
    for message in messages {
        let event = delivered(std::slice::from_ref(message));
        let ends = Instant::now() + PLENTY;
        let answer = if message.body.contains("ball.served") {
            handle(&Player::<false>, &bench.store, &bench.queues, event, ends).await
        } else {
            handle(&Player::<true>, &bench.store, &bench.queues, event, ends).await
        };
        assert!(again(answer).is_empty());
    }
}

/// Carries what is said to who hears it until nothing is said any more, and returns how many events that were.
async fn play(bench: &Bench) -> usize {
    let mut events = 0;
    loop {
        let messages = published(&bench.store).await;
        if messages.is_empty() {
            return events;
        }
        events += messages.len();
        assert!(events < 100, "nothing stops them");
        heard(bench, &messages).await;
    }
}

#[tokio::test]
async fn two_agents_that_answer_each_other_stop_at_the_limit_and_the_chain_is_parked_once() {
    let bench = served("{}").await;

    // The first, sixteen hops that are handled, and the one that is parked.
    assert_eq!(play(&bench).await, 18);

    assert_eq!(bench.reasons(), ["too_many_hops"]);
    let row = bench.client.query_one("select reason, error, agent from switchyard.failure", &[]).await.unwrap();
    let (reason, error, agent): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    assert_eq!((reason.as_str(), agent.as_str()), ("too_many_hops", "second-player"));
    assert!(error.starts_with("17 events stand before it, and 16 are allowed: ball.served about "), "{error}");
    assert_eq!(error.matches(" -> ").count(), 17, "the whole chain: {error}");
    let letter = &bench.queues.dead_letters()[0];
    heard(&bench, std::slice::from_ref(letter)).await;
    assert_eq!(bench.queues.dead_letters().len(), 1, "a copy of it is acknowledged");
}

#[tokio::test]
async fn a_redriven_event_is_not_stopped_and_what_follows_has_a_budget_of_its_own() {
    let bench = served("{}").await;
    play(&bench).await;

    let redriven =
        bench.store.redrive("second-player", &Selection::default(), 0, "a person", "once more").await.unwrap();
    assert_eq!(redriven.len(), 1);
    heard(&bench, &due(&bench.store, "second-player").await).await;

    assert_eq!(bench.count("switchyard.delivery where state = 'p'").await, 0);
    let hops = "select (metadata->>'hops')::bigint from events e join switchyard.event_log l on l.event_id = e.id order by l.seq desc limit 1";
    assert_eq!(bench.client.query_one(hops, &[]).await.unwrap().get::<_, i64>(0), 1);
    assert_eq!(play(&bench).await, 17, "and stops again, from the first hop on");
    assert_eq!(bench.reasons(), ["too_many_hops"; 2]);
}

#[tokio::test]
async fn a_replay_is_not_stopped_either_and_says_nothing_anew() {
    let bench = served(r#"{"hops": 17, "started_at": "2020-01-01T00:00:00Z"}"#).await;
    assert_eq!(play(&bench).await, 1);
    assert_eq!(bench.reasons(), ["too_many_hops"]);
    bench.store.redrive("first-player", &Selection::default(), 0, "a person", "meant so").await.unwrap();
    heard(&bench, &due(&bench.store, "first-player").await).await;
    play(&bench).await;
    let parked = bench.queues.dead_letters().len();

    let run = bench.store.new_run("first-player", "looking again").await.unwrap();
    let first: i64 = bench.client.query_one("select min(seq) from switchyard.event_log", &[]).await.unwrap().get(0);
    assert_eq!(bench.store.resend("first-player", &[first], run, "looking again").await.unwrap().added, 1);
    heard(&bench, &due(&bench.store, "first-player").await).await;

    assert_eq!(bench.count("switchyard.delivery where run > 0 and state = 'd'").await, 1);
    assert_eq!((play(&bench).await, bench.queues.dead_letters().len()), (0, parked));
}

#[tokio::test]
async fn a_chain_that_goes_on_for_longer_than_a_day_is_parked() {
    let bench =
        served(r#"{"hops": 8, "started_at": "2020-01-01T00:00:00Z", "timestamp": "2020-01-01T20:00:00Z"}"#).await;

    // The one of that day is handled; what it causes is said years later.
    assert_eq!(play(&bench).await, 2);

    assert_eq!(bench.reasons(), ["chain_too_old"]);
}

#[tokio::test]
async fn waiting_does_not_count_towards_a_chain_s_time() {
    let said = r#"{"hops": 1, "correlation_id": "c", "timestamp": "2020-01-01T00:00:00Z"}"#;
    let bench = served(said).await;

    // The first is handled years after it was said, and what it causes says that the chain is that old.
    play(&bench).await;

    let old = bench.count("events where metadata->>'started_at' = '2020-01-01T00:00:00Z'").await;
    assert!(old > 5, "{old}");
    let hops = "select (max(metadata->>'hops')::bigint) from events where (metadata->>'hops')::bigint < 10";
    assert_eq!(bench.client.query_one(hops, &[]).await.unwrap().get::<_, i64>(0), 9, "more than a few hops, and it is");
    assert_eq!(bench.reasons(), ["chain_too_old"]);
}

#[tokio::test]
async fn an_event_within_its_budget_that_was_sent_again_does_not_lift_it() {
    let bench = served(r#"{"hops": 3}"#).await;
    let id: Uuid = bench.client.query_one("select id from events", &[]).await.unwrap().get(0);
    published(&bench.store).await;
    let report = ParkReport { ask: Ask::live(id), reason: "attempts_used_up".into(), error: "told to".into() };
    bench.store.park("first-player", &[report]).await.unwrap();
    bench.store.redrive("first-player", &Selection::default(), 0, "a person", "once more").await.unwrap();

    heard(&bench, &due(&bench.store, "first-player").await).await;

    let hops = "select (metadata->>'hops')::bigint from events where type = 'ball.returned'";
    assert_eq!(bench.client.query_one(hops, &[]).await.unwrap().get::<_, i64>(0), 4);
}

#[tokio::test]
async fn a_first_event_from_years_ago_is_no_old_chain_and_neither_is_one_that_waited_on_purpose() {
    for metadata in [
        r#"{"timestamp": "2020-01-01T00:00:00Z"}"#,
        r#"{"hops": 3, "started_at": "2020-01-01T00:00:00Z", "deliver_at": "2099-01-01T00:00:00Z"}"#,
    ] {
        let bench = served(metadata).await;
        bench.client.batch_execute("update switchyard.outbox set due_at = null").await.unwrap();
        play(&bench).await;
        assert_eq!(bench.reasons(), ["too_many_hops"], "the seventeenth hop, and no age");
    }
}
