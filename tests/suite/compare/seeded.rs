//! A thousand differences, put in by a program that shares no code with the comparator: all of them are found, and nothing else.
#![allow(clippy::print_stdout, reason = "the seed, for whoever has to draw it again")]

use super::{set, step, toml};
use crate::store::{
    directly_and_pooled,
    world::{AGENT, LedgerWorld},
};
use differences::{Counts, Expected, MAPPING, Plan, Story, write};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use switchyard_store::Mode;
use uuid::Uuid;

const COUNTS: Counts = Counts { differences: 1_000, nearly: 500, others: 3_500 };

directly_and_pooled! {
    async fn a_thousand_seeded_differences_are_all_found_and_none_is_invented(world: LedgerWorld) {
        let plan = seeded(&world).await;
        let events = plan.stories.len();
        println!("seed {}: {:?}", plan.seed, plan.kinds());
        assert_eq!(plan.differences(), COUNTS.differences);

        let began = Instant::now();
        let report = set(&world.store, AGENT, &toml(MAPPING)).await.unwrap();
        finish(&world, &plan).await;
        println!("{events} events compared in {:.1} s", began.elapsed().as_secs_f64());

        assert_eq!(report.line.trouble, None);
        comes_out(&world, &plan, |expected| expected.clone()).await;
        assert_eq!(unmatched(&world).await, plan.unmatched.iter().map(|unmatched| unmatched.thing).collect(), "seed {}", plan.seed);
        add_up(&world, &plan).await;
    }

    async fn overwritten_answers_give_no_false_difference(world: LedgerWorld) {
        let plan = written(&world, Counts { differences: 400, nearly: 150, others: 800 }).await;
        let touched = written_over(&world).await;
        set(&world.store, AGENT, &toml(MAPPING)).await.unwrap();
        finish(&world, &plan).await;

        let found = outcomes(&world).await;
        let mut counted = 0;
        for Story { event_id, thing, kind, expected, .. } in &plan.stories {
            let outcome = &found[event_id];
            let same = is_difference(outcome) == is_difference(expected);
            assert!(*outcome == Expected::Overtaken || same, "{kind} {event_id}: {outcome:?}, seed {}", plan.seed);
            let alone = plan.stories.iter().filter(|story| story.thing == *thing).count() == 1;
            if alone && !touched.contains(thing) && *kind != "late" {
                assert_eq!(outcome, expected, "{kind} {event_id}, seed {}", plan.seed);
                counted += 1;
            }
        }
        assert!(counted > 300, "{counted} of {}", plan.stories.len());
    }

    async fn only_mapped_fields_are_compared(world: LedgerWorld) {
        let counts = Counts { differences: 150, nearly: 50, others: 100 };
        let plan = written(&world, counts).await;
        let mut blind = toml(MAPPING);
        blind["answers"][0]["fields"].as_array_mut().unwrap().retain(|field| field["ours"] != "weight");
        set(&world.store, AGENT, &blind).await.unwrap();
        let blindly = |expected: &Expected| unless(expected, "row.weight");
        comes_out(&world, &plan, blindly).await;
        assert!(plan.stories.iter().any(|story| blindly(&story.expected) != story.expected), "seed {}", plan.seed);

        set(&world.store, AGENT, &toml(MAPPING)).await.unwrap();
        comes_out(&world, &plan, |expected| expected.clone()).await;
    }
}

/// The old system's table as one that holds a row of a thing: the last one, and every fifth written once more, without a change, long after it was
/// due. The things of those.
async fn written_over(world: &LedgerWorld) -> BTreeSet<Uuid> {
    world
        .run_sql(
            r#"delete from legacy."Appraisals" a where a.deleted_at is not null or exists (
                 select from legacy."Appraisals" b where b.thing = a.thing and b.deleted_at is null and (b.noted_at, b.id) > (a.noted_at, a.id));
               create unique index on legacy."Appraisals" (thing)"#,
        )
        .await;
    let touch =
        r#"update legacy."Appraisals" set noted_at = noted_at + interval '3 min' where id % 5 = 0 returning thing"#;
    world.side.query(touch, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

fn is_difference(outcome: &Expected) -> bool {
    !matches!(outcome, Expected::Agreed | Expected::Overtaken)
}

async fn seeded(world: &LedgerWorld) -> Plan {
    written(world, COUNTS).await
}

/// As if all of it had happened while the agent was in shadow mode.
async fn written(world: &LedgerWorld, counts: Counts) -> Plan {
    world.routing(Mode::Shadow).await;
    let plan = Plan::draw(fastrand::u64(..), counts);
    write(&world.side, AGENT, &plan).await.unwrap();
    plan
}

/// Looks for unmatched rows in all of the time, as if the mapping had been there from the beginning, and compares what there was no time for.
async fn finish(world: &LedgerWorld, plan: &Plan) {
    let millis = plan.lasts;
    world
        .run_sql(&format!(
            "update switchyard.compare_mapping set unmatched_to = now() - {millis} * interval '1 ms' - interval '1 min'"
        ))
        .await;
    let open = "select count(*) from switchyard.shadow where outcome is null";
    // Until it has looked as far as it may: to a wait before now.
    let inspected = "select count(*) from switchyard.compare_mapping where unmatched_to > now() - interval '2 min'";
    let deadline = crate::store::world::Deadline::new("the comparison");
    while world.number(open).await > 0 || world.number(inspected).await == 0 {
        deadline.check();
        assert_eq!(step(&world.store).await.trouble, None);
    }
    // Once more: nothing is counted twice.
    let again = step(&world.store).await;
    assert_eq!((again.compared, again.unmatched), (0, 0));
}

/// Each event comes out as it should, and there is no other.
async fn comes_out(world: &LedgerWorld, plan: &Plan, expected: impl Fn(&Expected) -> Expected) {
    let (found, events) = (outcomes(world).await, plan.stories.len());
    let apart: Vec<_> = plan
        .stories
        .iter()
        .map(|story| (story, found.get(&story.event_id), expected(&story.expected)))
        .filter(|(_, found, expected)| *found != Some(expected))
        .collect();
    for (story, found, expected) in apart.iter().take(5) {
        println!("{} {}: {found:?} and not {expected:?}", story.kind, story.event_id);
    }
    assert!(
        apart.is_empty() && found.len() == events,
        "{} of {events} came out otherwise, seed {}",
        apart.len(),
        plan.seed
    );
}

async fn outcomes(world: &LedgerWorld) -> BTreeMap<Uuid, Expected> {
    let rows = "select event_id, outcome, coalesce(differs, '{}') from switchyard.shadow where outcome is not null";
    let rows = world.side.query(rows, &[]).await.unwrap();
    rows.iter()
        .map(|row| {
            let differs: Vec<String> = row.get(2);
            let outcome = match row.get::<_, &str>(1) {
                "agreed" => Expected::Agreed,
                "differed" => Expected::Differed(differs.into_iter().collect()),
                "only_old" => Expected::OnlyOld,
                "only_new" => Expected::OnlyNew,
                "overtaken" => Expected::Overtaken,
                other => panic!("{other}"),
            };
            (row.get(0), outcome)
        })
        .collect()
}

async fn unmatched(world: &LedgerWorld) -> BTreeSet<Uuid> {
    let rows = world.side.query("select answer, key from switchyard.unmatched_row", &[]).await.unwrap();
    rows.iter()
        .map(|row| {
            assert_eq!(row.get::<_, &str>(0), "row");
            let key: Vec<String> = row.get(1);
            key[0].parse().unwrap()
        })
        .collect()
}

/// Counts, trend and examples tell the same as the outcomes.
async fn add_up(world: &LedgerWorld, plan: &Plan) {
    let report = super::report(&world.store, AGENT, 50).await;
    let count = |wanted: fn(&Expected) -> bool| {
        i64::try_from(plan.stories.iter().filter(|story| wanted(&story.expected)).count()).unwrap()
    };
    let unmatched = i64::try_from(plan.unmatched.len()).unwrap();
    let compared = report.line.compared;
    assert_eq!(compared.agreed, count(|expected| *expected == Expected::Agreed));
    assert_eq!(compared.differed, count(|expected| matches!(expected, Expected::Differed(_))));
    assert_eq!(compared.only_old, count(|expected| *expected == Expected::OnlyOld) + unmatched);
    assert_eq!(compared.only_new, count(|expected| *expected == Expected::OnlyNew));
    assert_eq!(compared.overtaken, count(|expected| *expected == Expected::Overtaken));
    assert_eq!((compared.unmatched, compared.not_yet), (unmatched, 0));
    assert_eq!(report.trend.iter().map(|step| step.compared.judged()).sum::<i64>(), compared.judged());
    assert_eq!(report.trend.iter().map(|step| step.compared.agreed).sum::<i64>(), compared.agreed);

    let expected: BTreeMap<Uuid, &Expected> =
        plan.stories.iter().map(|story| (story.event_id, &story.expected)).collect();
    assert_eq!(report.examples.len(), 150);
    for shown in &report.examples {
        let values = shown.values.as_ref().unwrap();
        assert_eq!(shown.by_now, None);
        let named: BTreeSet<String> = values.iter().map(|value| value.field.clone()).collect();
        match expected[&shown.example.event_id] {
            Expected::Differed(fields) => assert_eq!(&named, fields),
            Expected::OnlyNew => assert!(values.iter().all(|value| value.theirs == Value::Null), "{shown:?}"),
            Expected::OnlyOld => assert!(values.iter().all(|value| value.ours == Value::Null), "{shown:?}"),
            other => panic!("{other:?} is no example"),
        }
    }
}

/// The same for who does not look at a field.
fn unless(expected: &Expected, field: &str) -> Expected {
    match expected {
        Expected::Differed(fields) => {
            let left: BTreeSet<String> = fields.iter().filter(|name| *name != field).cloned().collect();
            if left.is_empty() { Expected::Agreed } else { Expected::Differed(left) }
        }
        other => other.clone(),
    }
}
