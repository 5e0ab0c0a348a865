//! Agents that write the effects of a whole batch at once: what is too late, whose events follow, and who alone is refused.

use super::world::{PLENTY, RuntimeWorld, orders};
use serde::{Deserialize, Serialize};
use std::{cell::Cell, collections::BTreeMap};
use switchyard_agent::{Agent, Applied, Change, Decision, Refusal, Reject, State, last_of_each};
use switchyard_event::{Event, EventType, NewEvent};
use switchyard_runtime::{Tx, Type, handle};
use switchyard_store::{AgentSpec, Mode, RoutedBy, Since};
use tokio::time::Instant;

/// Keeps the newest order of each key, with one statement for a batch, and emits what it has kept.
#[derive(Default)]
struct Keeper {
    gathered: Cell<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    key: String,
    apply: Option<String>,
}

const DECIDED: EventType = EventType::named("kept.decided");
const APPLIED: EventType = EventType::named("kept.applied");

fn about(event_type: EventType, event: &Event) -> Result<NewEvent, Refusal> {
    Ok(NewEvent::new(event_type, "order", event.id.to_string(), &event.metadata.sequence)?)
}

impl Agent for Keeper {
    const NAME: &'static str = "keeper";
    const SUBSCRIBES: &'static [EventType] = &[EventType::named("order.given")];

    type Facts = ();
    type Effect = Kept;
    type Tx = Tx;

    async fn gather(&self, _: &Event) -> Result<(), Refusal> {
        self.gathered.set(self.gathered.get() + 1);
        Ok(())
    }

    fn decide(event: &Event, (): &()) -> Result<Decision<Kept>, Reject> {
        let decided = NewEvent::new(DECIDED, "order", event.id.to_string(), &event.metadata.sequence)?;
        Ok(Decision::nothing().effect(event.decode()?).event(decided))
    }

    fn overwrites(kept: &Kept) -> Option<State> {
        // One that looks for itself knows the state without being asked.
        (kept.apply.as_deref() != Some("look for itself")).then(|| State::new("order", &kept.key))
    }

    async fn apply_batch(changes: &[Change<'_, Kept>], tx: &mut Tx) -> Result<Applied, Refusal> {
        if changes.iter().any(|change| change.effect.apply.as_deref() == Some("retry")) {
            return Err(Refusal::retry("told to"));
        }
        let mut applied = Applied::all();
        let is_itself = |change: &Change<'_, Kept>| change.effect.apply.as_deref() == Some("look for itself");
        let (itself, changes): (Vec<_>, Vec<_>) = changes.iter().copied().partition(is_itself);
        itself.iter().for_each(|change| applied.supersede(change));
        let last = last_of_each(&changes, |kept| &kept.key);
        let keys: Vec<&str> = last.iter().map(|change| change.effect.key.as_str()).collect();
        let seqs: Vec<i64> = last.iter().map(|change| change.sequence).collect();
        tx.execute(
            "insert into kept select * from unnest($1, $2) on conflict (key) do update set sequence = excluded.sequence",
            &[(&keys, Type::TEXT_ARRAY), (&seqs, Type::INT8_ARRAY)],
        )
        .await?;
        // Of the last one first, so that the order in which an agent emits says nothing of whose event it is.
        for change in changes.iter().rev() {
            applied.emit(change, about(APPLIED, change.event)?);
        }
        Ok(applied)
    }
}

async fn kept() -> RuntimeWorld {
    let world = RuntimeWorld::new(Mode::Full).await;
    world.client.batch_execute("create table kept (key text primary key, sequence bigint not null)").await.unwrap();
    let spec = AgentSpec {
        name: Keeper::NAME.into(),
        subscribes: vec!["order.given".into()],
        routed_by: RoutedBy::Aggregate,
        max_attempts: 2,
    };
    world.store.register(&spec, Mode::Full, Since::Now).await.unwrap();
    world
}

impl RuntimeWorld {
    /// How often the keeper gathered for these, and how many must come again.
    async fn keep(&self, bodies: &[String]) -> (u32, usize) {
        let keeper = Keeper::default();
        let batch = super::world::batch(bodies, 1);
        let answer = handle(&keeper, &self.store, &self.queues, batch, Instant::now() + PLENTY).await;
        (keeper.gathered.get(), super::world::again(answer).len())
    }

    /// The states of the keeper's deliveries, in the order of the log.
    async fn kept_states(&self) -> String {
        let sql = "select coalesce(string_agg(d.state::text, '' order by d.seq), '') from switchyard.delivery d
                     join switchyard.agent a on a.id = d.agent where a.name = 'keeper'";
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// What was emitted about each event, by the event's sequence.
    async fn emitted(&self) -> BTreeMap<i64, Vec<String>> {
        let sql = "select l.seq, e.type, e.payload::text from events e
                     join switchyard.event_log l on l.event_id = (e.metadata ->> 'causation_id')::uuid
                    where e.type like 'kept.%' order by e.type";
        let mut emitted: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for row in self.client.query(sql, &[]).await.unwrap() {
            let (seq, event_type, payload): (i64, String, String) = (row.get(0), row.get(1), row.get(2));
            assert_eq!(
                payload,
                seq.to_string(),
                "{event_type} is attributed to another event than the one that it is about"
            );
            emitted.entry(seq).or_default().push(event_type);
        }
        emitted
    }

    async fn kept_sequence(&self) -> i64 {
        self.client.query_one("select sequence from kept", &[]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn of_a_batch_in_which_some_are_too_late_those_are_superseded_and_the_others_done_at_once() {
    let world = kept().await;
    let bodies = world.give(&orders([("apply", "keep"); 5])).await;
    assert_eq!(world.keep(&bodies[2..=2]).await, (1, 0));

    assert_eq!(world.keep(&[&bodies[3..], &bodies[..2]].concat()).await, (4, 0), "nothing is decided anew");

    assert_eq!(world.kept_states().await, "ssddd");
    let emitted = world.emitted().await;
    let both = vec![APPLIED.to_string(), DECIDED.to_string()];
    assert_eq!(emitted.values().collect::<Vec<_>>(), [&both, &both, &both], "what is too late emits nothing");
    assert_eq!(world.kept_sequence().await, *emitted.keys().last().unwrap());
}

#[tokio::test]
async fn an_agent_that_finds_for_itself_what_is_too_late_settles_exactly_that_as_superseded() {
    let world = kept().await;
    let bodies = world.give(&orders([("apply", "keep"), ("apply", "look for itself"), ("apply", "keep")])).await;

    assert_eq!(world.keep(&bodies).await, (3, 0));

    assert_eq!(world.kept_states().await, "dsd");
    assert_eq!(world.emitted().await.len(), 2);
}

#[tokio::test]
async fn a_refusal_of_a_batch_counts_for_the_record_that_it_is_about_alone() {
    let world = kept().await;
    let bodies = world.give(&orders([("apply", "keep"), ("apply", "retry"), ("apply", "keep")])).await;

    assert_eq!(world.keep(&bodies).await, (3, 1));

    assert_eq!(world.kept_states().await, "dfd");
    assert_eq!(world.emitted().await.len(), 2);
    assert_eq!(world.keep(&bodies).await, (1, 0));
    assert_eq!(world.kept_states().await, "dsd", "a newer one of the same key has written meanwhile");
    assert!(world.reasons().is_empty());
}

#[tokio::test]
async fn a_batch_that_is_committed_again_after_a_lost_answer_emits_nothing_twice() {
    let world = kept().await;
    let bodies = world.give(&orders([("apply", "keep"); 3])).await;
    world.keep(&bodies).await;
    let first = world.count("events where type like 'kept.%'").await;
    // As if the ledger had never heard of the commit: the ids of the events derive from their causes.
    world.client.batch_execute("update switchyard.delivery set state = 'a', reason = null").await.unwrap();

    assert_eq!(world.keep(&bodies).await, (3, 0));

    assert_eq!((first, world.count("events where type like 'kept.%'").await), (6, 6));
}
