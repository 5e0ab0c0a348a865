//! Payloads that no message could carry: they stay in the table and reach the agent to the letter.

use super::world::{PLENTY, RuntimeWorld, again, delivered, published};
use std::{cell::RefCell, time::Duration};
use switchyard_agent::{Agent, Decision, Refusal, Reject};
use switchyard_bus::{Message, TOPIC_BYTES};
use switchyard_event::{Event, EventType};
use switchyard_runtime::{MAX_PAYLOAD_BYTES, Tx, handle};
use switchyard_store::{AgentSpec, Mode, RoutedBy, Since};
use tokio::time::Instant;
use uuid::Uuid;

/// Remembers the payloads that it has decided about.
#[derive(Default)]
struct Reader {
    read: RefCell<Vec<String>>,
}

impl Agent for Reader {
    const NAME: &'static str = "reader";
    const SUBSCRIBES: &'static [EventType] = &[EventType::named("text.written")];

    type Facts = ();
    type Effect = ();
    type Tx = Tx;

    async fn gather(&self, event: &Event) -> Result<(), Refusal> {
        assert_eq!(event.metadata.claim_check, None, "an agent never sees a claim check");
        self.read.borrow_mut().push(event.payload().to_owned());
        Ok(())
    }

    fn decide(_: &Event, (): &()) -> Result<Decision<()>, Reject> {
        Ok(Decision::nothing())
    }
}

async fn read_in(mode: Mode) -> RuntimeWorld {
    let world = RuntimeWorld::new(Mode::Full).await;
    let spec = AgentSpec {
        name: "reader".into(),
        subscribes: vec!["text.written".into()],
        routed_by: RoutedBy::Aggregate,
        max_attempts: 2,
    };
    world.store.register(&spec, mode, Since::Now).await.unwrap();
    world
}

/// Writes a text so that the payload, as the table prints it, has so many bytes.
async fn write(world: &RuntimeWorld, bytes: usize) -> Uuid {
    let id = Uuid::new_v4();
    let text = "ü".repeat((bytes - r#"{"text": "x"}"#.len()) / 2);
    let pad = if (bytes - r#"{"text": "x"}"#.len()).is_multiple_of(2) { "x" } else { "xx" };
    let insert = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                  values ($1, 'text.written', 'text', gen_random_uuid(), jsonb_build_object('text', $2::text), '{}', 1)";
    world.client.execute(insert, &[&id, &format!("{text}{pad}")]).await.unwrap();
    let size = "select octet_length(payload::text)::bigint from events where id = $1";
    assert_eq!(world.client.query_one(size, &[&id]).await.unwrap().get::<_, i64>(0), bytes as i64);
    id
}

async fn stored(world: &RuntimeWorld, id: Uuid) -> String {
    world.client.query_one("select payload::text from events where id = $1", &[&id]).await.unwrap().get(0)
}

/// What a reader reads of these, and which must come again.
async fn reads(world: &RuntimeWorld, messages: &[Message]) -> (Vec<String>, usize) {
    let reader = Reader::default();
    let answer = handle(&reader, &world.store, &world.queues, delivered(messages), Instant::now() + PLENTY).await;
    (reader.read.into_inner(), again(answer).len())
}

#[tokio::test]
async fn at_every_size_around_the_limit_an_agent_decides_about_exactly_what_is_stored() {
    let world = read_in(Mode::Full).await;
    let mut ids = Vec::new();
    for bytes in [255 * 1024, 256 * 1024 - 1, 256 * 1024, 257 * 1024, 1024 * 1024 - 1, 1024 * 1024] {
        ids.push(write(&world, bytes).await);
    }
    let messages = published(&world.store).await;
    assert!(messages.iter().all(|message| message.size() <= TOPIC_BYTES));
    let checks = messages.iter().filter(|message| message.body.contains("claim_check")).count();
    assert_eq!(checks, 5, "255 KiB travels whole, with its envelope; the others do not fit");

    let (read, again) = reads(&world, &messages).await;

    assert_eq!(again, 0);
    for id in ids {
        let stored = stored(&world, id).await;
        assert!(read.contains(&stored), "{} bytes were not read to the letter", stored.len());
    }
}

#[tokio::test]
async fn what_is_larger_than_an_agent_reads_is_parked_with_that_reason() {
    let world = read_in(Mode::Full).await;
    let limit = usize::try_from(MAX_PAYLOAD_BYTES).unwrap();
    write(&world, limit).await;
    write(&world, limit + 1).await;
    let messages = published(&world.store).await;

    let (read, again) = reads(&world, &messages).await;

    assert_eq!((read.len(), again), (1, 0));
    assert_eq!((world.reasons(), world.states().await), (vec!["oversized".to_owned()], "dp".to_owned()));
}

#[tokio::test]
async fn payloads_that_do_not_fit_into_one_batch_together_have_their_turn_later() {
    let world = read_in(Mode::Full).await;
    for _ in 0..3 {
        write(&world, 3 * 1024 * 1024).await;
    }
    let messages = published(&world.store).await;

    assert_eq!(reads(&world, &messages).await.1, 1);

    assert_eq!(reads(&world, &messages[2..]).await.1, 0);
    assert_eq!((world.states().await, world.count("switchyard.failure").await), ("ddd".to_owned(), 0));
}

#[tokio::test]
async fn a_claim_check_whose_event_was_deleted_is_settled_as_expired() {
    let world = read_in(Mode::Full).await;
    let id = write(&world, 300 * 1024).await;
    let messages = published(&world.store).await;
    world.client.execute("delete from events where id = $1", &[&id]).await.unwrap();

    assert_eq!(reads(&world, &messages).await, (vec![], 0));

    assert!(world.queues.dead_letters().is_empty(), "nothing is left that a person could mend");
    assert_eq!(world.states().await, "e");
    assert_eq!(world.count("switchyard.delivery where reason = 'event_deleted'").await, 1);
}

#[tokio::test]
async fn a_copy_from_before_an_edit_is_handled_with_the_edited_payload() {
    let world = read_in(Mode::Full).await;
    let (small, large) = (write(&world, 100).await, write(&world, 300 * 1024).await);
    let messages = published(&world.store).await;
    let edited = [r#"{"text": "mended"}"#.to_owned(), format!(r#"{{"text": "{}"}}"#, "y".repeat(400_000))];
    for (id, edited) in [small, large].into_iter().zip(&edited) {
        world.store.revise(id, edited, "a person", "it was wrong").await.unwrap();
    }

    // How long an edited payload is no message knows, so the second has its turn later.
    let (mut read, again) = reads(&world, &messages).await;
    assert_eq!(again, 1);
    read.extend(reads(&world, &messages).await.0);

    assert_eq!((read, world.states().await), (edited.to_vec(), "dd".to_owned()));
}

#[tokio::test]
async fn what_is_edited_while_it_is_gathered_is_not_done_with_the_old_payload() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let order = |key: &str| serde_json::json!({ "gather": "wait once", "key": key });
    let bodies = world.give(&[order("old")]).await;
    let id = Event::id_of(&bodies[0]).unwrap();

    let edited = async {
        world.agent.waiting.notified().await;
        world.store.revise(id, &order("new").to_string(), "a person", "it was wrong").await.unwrap();
        world.agent.go_on.notify_one();
    };
    let (again, ()) = tokio::join!(world.handle(&bodies, PLENTY), edited);
    assert_eq!((again, world.count("done").await), (vec![0], 0));
    assert_eq!(world.agent.gathered.get(), 1, "the old payload is worth no second look");
    assert_eq!(world.queues.visibilities()[0].delay, Duration::ZERO, "it comes again at once");

    assert!(world.handle(&bodies, PLENTY).await.is_empty());
    assert_eq!(world.count("done where key = 'new'").await, 1);
    assert_eq!((world.count("done").await, world.count("switchyard.failure").await), (1, 0));
}

#[tokio::test]
async fn in_shadow_mode_what_could_not_be_read_is_what_is_compared() {
    let world = read_in(Mode::Shadow).await;
    write(&world, 9 * 1024 * 1024).await;
    let messages = published(&world.store).await;

    assert_eq!(reads(&world, &messages).await, (vec![], 0));

    assert!(world.queues.dead_letters().is_empty(), "the old system's events fill no dead-letter queue");
    assert_eq!(world.count("switchyard.shadow where decision::text like '%oversized%'").await, 1);
}
