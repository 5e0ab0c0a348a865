//! A selection means what a plain filter would, whatever is combined in it.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use switchyard_store::{Selection, Type};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::{AGENT, LedgerWorld};

const TYPES: [&str; 2] = ["thing.made", "thing.changed"];
const REASONS: [&str; 3] = ["rejected", "attempts_used_up", "unanswered"];
const PROJECTS: [Option<&str>; 3] = [None, Some("p1"), Some("p2")];
/// Minutes of an hour at which something was parked.
const MINUTES: u32 = 6;

/// A parked delivery as the test knows it.
#[derive(Clone, Debug)]
struct Known {
    seq: i64,
    event: Uuid,
    event_type: &'static str,
    reason: &'static str,
    project: Option<&'static str>,
    minute: u32,
}

fn at(minute: u32) -> String {
    format!("2026-03-01T12:{minute:02}:00Z")
}

/// What the selection means, in plain words.
fn chosen(selection: &Selection, known: &[Known]) -> Vec<i64> {
    let any =
        |given: &[String], value: Option<&str>| given.is_empty() || value.is_some_and(|v| given.iter().any(|g| g == v));
    let mut seqs: Vec<i64> = known
        .iter()
        .filter(|k| selection.events.is_empty() || selection.events.contains(&k.event))
        .filter(|k| {
            any(&selection.types, Some(k.event_type))
                && any(&selection.reasons, Some(k.reason))
                && any(&selection.projects, k.project)
        })
        .filter(|k| selection.since.as_ref().is_none_or(|since| at(k.minute) >= *since))
        .filter(|k| selection.until.as_ref().is_none_or(|until| at(k.minute) < *until))
        .map(|k| k.seq)
        .collect();
    seqs.sort_unstable();
    if let Some(at_most) = selection.at_most {
        seqs.truncate(usize::try_from(at_most).unwrap());
    }
    seqs
}

fn some_of(words: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        Just(Vec::new()),
        proptest::sample::subsequence(words, 1..=words.len()).prop_map(|s| s.into_iter().map(str::to_owned).collect())
    ]
}

fn selections(events: Vec<Uuid>) -> impl Strategy<Value = Selection> {
    let some_events = prop_oneof![3 => Just(Vec::new()), 2 => proptest::sample::subsequence(events, 0..=12)];
    let time = || proptest::option::of((0..=MINUTES).prop_map(at));
    (
        some_events,
        some_of(&TYPES),
        some_of(&REASONS),
        some_of(&["p1", "p2", "p9"]),
        time(),
        time(),
        proptest::option::of(0..30_i64),
    )
        .prop_map(|(events, types, reasons, projects, since, until, at_most)| Selection {
            events,
            types,
            reasons,
            projects,
            since,
            until,
            at_most,
        })
}

async fn parked_things(world: &LedgerWorld, runner: &mut TestRunner) -> Vec<Known> {
    let mut known = Vec::new();
    for _ in 0..60 {
        let draw = (0..2_usize, 0..3_usize, 0..3_usize, 0..MINUTES).new_tree(runner).unwrap().current();
        let (event_type, reason, project, minute) = (TYPES[draw.0], REASONS[draw.1], PROJECTS[draw.2], draw.3);
        let metadata = project.map_or_else(|| "{}".to_owned(), |p| format!(r#"{{"project_id": "{p}"}}"#));
        let event = world.event_with(event_type, Uuid::new_v4(), &metadata).await;
        let seq = world.seq(event).await;
        world.park(event).await;
        world
            .side
            .execute_typed(
                "update switchyard.delivery set reason = $2, at = $3::text::timestamptz where seq = $1",
                &[(&seq, Type::INT8), (&reason, Type::TEXT), (&at(minute), Type::TEXT)],
            )
            .await
            .unwrap();
        known.push(Known { seq, event, event_type, reason, project, minute });
    }
    known
}

directly_and_pooled! {
    async fn a_selection_means_what_a_plain_filter_means(world: LedgerWorld) {
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
        let known = parked_things(&world, &mut runner).await;
        let selections = selections(known.iter().map(|k| k.event).collect());
        for _ in 0..120 {
            let selection = selections.new_tree(&mut runner).unwrap().current();
            let expected = chosen(&selection, &known);
            let told = world.store.parked_deliveries(AGENT, &selection, None, 1_000).await.unwrap();
            assert_eq!(told.iter().map(|d| d.seq).collect::<Vec<_>>(), expected, "{selection:?}");
            let groups = world.store.parked(AGENT, &selection).await.unwrap();
            assert_eq!(groups.iter().map(|g| g.count).sum::<i64>(), i64::try_from(expected.len()).unwrap(), "{selection:?}");
            let back = world.store.redrive(AGENT, &selection, 0, "alice", "a test").await.unwrap();
            assert_eq!(back, expected, "{selection:?}");
            // Parked again, as it was.
            for k in known.iter().filter(|k| back.contains(&k.seq)) {
                world.run_sql(&format!("update switchyard.delivery set state = 'p', at = '{}', reason = '{}' where seq = {}", at(k.minute), k.reason, k.seq)).await;
            }
        }
    }
}
