//! What happened, and how the two sides compare: drawn from a seed, before anything is written.

use crate::sides::{Appraisal, FIELDS, Row};
use fastrand::Rng;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// The mapping's wait and how early an answer may be dated, in milliseconds.
const WAIT: i64 = 60_000;
const EARLY: i64 = 1_000;

/// How many of what.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// What must be found.
    pub differences: usize,
    /// Fields as far apart as the mapping allows: what must not be found.
    pub nearly: usize,
    /// What agrees in any other way, or cannot be told.
    pub others: usize,
}

/// How an event is to come out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// The two sides agree.
    Agreed,
    /// They do not, in exactly these fields.
    Differed(BTreeSet<String>),
    /// Only the old system did something.
    OnlyOld,
    /// Only the agent did something, in time.
    OnlyNew,
    /// It cannot be told.
    Overtaken,
}

/// An event, and what each side made of it.
#[derive(Debug, Clone)]
pub struct Story {
    /// The event.
    pub event_id: Uuid,
    /// What it is about.
    pub thing: Uuid,
    /// When it happened: milliseconds after the beginning.
    pub at: i64,
    /// The kind of the case, to search for one that was not found.
    pub kind: &'static str,
    /// How it is to come out.
    pub expected: Expected,
    pub(crate) decision: Value,
    pub(crate) rows: Vec<Row>,
    /// Events of the old system: when, and their payload.
    pub(crate) said: Vec<(i64, Value)>,
}

/// A row of the old system about a thing that no event is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Unmatched {
    /// The thing.
    pub thing: Uuid,
    pub(crate) row: Row,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// The events, in their order.
    pub stories: Vec<Story>,
    /// The rows beside them.
    pub unmatched: Vec<Unmatched>,
    /// How long all of it takes, in milliseconds, the last answer's wait included.
    pub lasts: i64,
}

/// Between two events. What is more than `APART` stories away is further away in time than anything that an answer may take.
const STEP: i64 = 1_400;
const APART: usize = 1_000;

impl Plan {
    /// Draws a plan.
    #[must_use]
    pub fn draw(seed: u64, counts: Counts) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut kinds: Vec<fn(&mut Draft<'_>)> = Vec::new();
        let mut unmatched = 0;
        for place in 0..counts.differences {
            // Each kind once, then as the seed has it.
            let choice = if place <= DIFFERENCES.len() { place } else { rng.usize(..=DIFFERENCES.len()) };
            match DIFFERENCES.get(choice) {
                Some(kind) => kinds.push(*kind),
                None => unmatched += 1,
            }
        }
        kinds.extend(std::iter::repeat_n(nearly as fn(&mut Draft<'_>), counts.nearly));
        kinds.extend(
            (0..counts.others)
                .map(|place| OTHERS[if place < OTHERS.len() { place } else { rng.usize(..OTHERS.len()) }]),
        );
        rng.shuffle(&mut kinds);
        let things: Vec<Uuid> = (0..APART).map(|_| id(&mut rng)).collect();
        let mut stories = Vec::new();
        for (place, kind) in kinds.iter().enumerate() {
            let at = i64::try_from(place).unwrap_or(0) * STEP + rng.i64(0..STEP);
            let thing = things[place % APART];
            kind(&mut Draft { rng: &mut rng, stories: &mut stories, at, thing });
        }
        stories.sort_by_key(|story| story.at);
        let ends = stories.last().map_or(0, |story| story.at);
        let unmatched = (0..unmatched)
            .map(|_| {
                let thing = id(&mut rng);
                let row = Appraisal::draw(&mut rng).row(thing, rng.i64(0..=ends));
                Unmatched { thing, row }
            })
            .collect();
        Self { seed, stories, unmatched, lasts: ends + 12 * WAIT }
    }

    /// How many differences there are to be found.
    #[must_use]
    pub fn differences(&self) -> usize {
        let apart = |story: &&Story| !matches!(story.expected, Expected::Agreed | Expected::Overtaken);
        self.stories.iter().filter(apart).count() + self.unmatched.len()
    }

    /// How many stories of each kind there are.
    #[must_use]
    pub fn kinds(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::from([("unmatched", self.unmatched.len())]);
        for story in &self.stories {
            *kinds.entry(story.kind).or_default() += 1;
        }
        kinds
    }
}

/// A story while it is made up. One kind may tell of two events.
struct Draft<'a> {
    rng: &'a mut Rng,
    stories: &'a mut Vec<Story>,
    at: i64,
    thing: Uuid,
}

/// What must be found; an unmatched row is one more, which belongs to no story.
const DIFFERENCES: [fn(&mut Draft<'_>); 14] = [
    |draft| fields(draft, "field", &[0]),
    |draft| fields(draft, "field", &[1]),
    |draft| fields(draft, "field", &[2]),
    |draft| fields(draft, "field", &[3]),
    |draft| fields(draft, "field", &[4]),
    |draft| fields(draft, "field", &[5]),
    some_fields,
    grade,
    half_old,
    half_new,
    missing_old,
    late,
    missing_new,
    as_good_as_nothing,
];

/// What must not be found.
const OTHERS: [fn(&mut Draft<'_>); 9] =
    [same, same, same, both_nothing, last_moment, early, mended, hurried, overtaken];

impl Draft<'_> {
    fn tell(&mut self, kind: &'static str, expected: Expected, sides: Sides) {
        let Sides { decision, rows, said } = sides;
        let event_id = id(self.rng);
        self.stories.push(Story { event_id, thing: self.thing, at: self.at, kind, expected, decision, rows, said });
    }

    /// When the old system is done, if nothing is the matter with it.
    fn answered(&mut self) -> i64 {
        self.at + self.rng.i64(50..40_000)
    }
}

/// Both sides of one event.
struct Sides {
    decision: Value,
    rows: Vec<Row>,
    said: Vec<(i64, Value)>,
}

const GRADES: [&str; 3] = ["fine", "fair", "poor"];

fn decision(appraisal: &Appraisal, grade: &str) -> Value {
    let said = json!({ "type": "thing.appraised", "aggregate_type": "thing", "aggregate_id": "", "payload": { "grade": grade }, "version": 1 });
    // What no mapping names stands around it.
    json!({ "effects": [{ "Log": { "label": "x" } }, appraisal.effect()], "events": [{ "type": "thing.seen", "payload": {} }, said] })
}

fn nothing(rng: &mut Rng) -> Value {
    if rng.bool() { json!({ "refused": "no_text: there is none" }) } else { json!({ "effects": [], "events": [] }) }
}

/// Both sides, each complete, the old one done at `noted`.
fn both(draft: &mut Draft<'_>, noted: i64) -> (Appraisal, Sides) {
    let appraisal = Appraisal::draw(draft.rng);
    let grade = GRADES[draft.rng.usize(..GRADES.len())];
    let rows = vec![appraisal.row(draft.thing, noted)];
    let sides = Sides { decision: decision(&appraisal, grade), rows, said: vec![(noted, json!({ "grade": grade }))] };
    (appraisal, sides)
}

fn differed(fields: impl IntoIterator<Item = impl Into<String>>) -> Expected {
    Expected::Differed(fields.into_iter().map(Into::into).collect())
}

fn fields(draft: &mut Draft<'_>, kind: &'static str, places: &[usize]) {
    let noted = draft.answered();
    let (appraisal, mut sides) = both(draft, noted);
    let mut other = appraisal.clone();
    let names: Vec<String> = places.iter().map(|place| format!("row.{}", other.move_away(*place, draft.rng))).collect();
    sides.rows = vec![other.row(draft.thing, noted)];
    draft.tell(kind, differed(names), sides);
}

fn some_fields(draft: &mut Draft<'_>) {
    let mut places: Vec<usize> = (0..FIELDS).collect();
    draft.rng.shuffle(&mut places);
    places.truncate(draft.rng.usize(2..=FIELDS));
    fields(draft, "fields", &places);
}

fn grade(draft: &mut Draft<'_>) {
    let noted = draft.answered();
    let (_, mut sides) = both(draft, noted);
    // One that is written otherwise, or is not there at all.
    sides.said = vec![(noted, if draft.rng.bool() { json!({ "grade": "Fine " }) } else { json!({}) })];
    draft.tell("grade", differed(["said.grade"]), sides);
}

fn half_old(draft: &mut Draft<'_>) {
    let noted = draft.answered();
    let (_, mut sides) = both(draft, noted);
    let missing = if draft.rng.bool() {
        sides.rows.clear();
        "row"
    } else {
        sides.said.clear();
        "said"
    };
    draft.tell("half_old", differed([missing]), sides);
}

fn half_new(draft: &mut Draft<'_>) {
    let noted = draft.answered();
    let (_, mut sides) = both(draft, noted);
    let missing = if draft.rng.bool() {
        sides.decision["effects"] = json!([]);
        "row"
    } else {
        sides.decision["events"] = json!([]);
        "said"
    };
    draft.tell("half_new", differed([missing]), sides);
}

fn missing_old(draft: &mut Draft<'_>) {
    let (_, sides) = both(draft, 0);
    draft.tell("missing_old", Expected::OnlyNew, Sides { rows: Vec::new(), said: Vec::new(), ..sides });
}

fn late(draft: &mut Draft<'_>) {
    let noted = draft.at + WAIT + draft.rng.i64(1..5 * WAIT);
    let (_, sides) = both(draft, noted);
    draft.tell("late", Expected::OnlyNew, sides);
}

fn missing_new(draft: &mut Draft<'_>) {
    let noted = draft.answered();
    let (_, mut sides) = both(draft, noted);
    sides.decision = nothing(draft.rng);
    draft.tell("missing_new", Expected::OnlyOld, sides);
}

fn as_good_as_nothing(draft: &mut Draft<'_>) {
    let noted = draft.answered();
    let (_, mut sides) = both(draft, noted);
    if draft.rng.bool() {
        sides.rows[0].label = ["none", "unknown"][draft.rng.usize(..2)].to_owned();
        sides.said.clear();
        draft.tell("as_good_as_nothing", Expected::OnlyNew, sides);
    } else {
        sides.decision["effects"] = json!([{ "Appraise": { "label": "none" } }]);
        sides.decision["events"] = json!([]);
        draft.tell("as_good_as_nothing", Expected::OnlyOld, sides);
    }
}

fn nearly(draft: &mut Draft<'_>) {
    let noted = draft.answered();
    let (appraisal, mut sides) = both(draft, noted);
    sides.rows = vec![appraisal.nearly(draft.rng).row(draft.thing, noted)];
    draft.tell("nearly", Expected::Agreed, sides);
}

fn same(draft: &mut Draft<'_>) {
    let noted = draft.answered();
    let (_, sides) = both(draft, noted);
    draft.tell("same", Expected::Agreed, sides);
}

fn both_nothing(draft: &mut Draft<'_>) {
    let decision = nothing(draft.rng);
    let mut rows = Vec::new();
    if draft.rng.bool() {
        let noted = draft.answered();
        let appraisal = Appraisal { label: "none".into(), ..Appraisal::draw(draft.rng) };
        rows.push(appraisal.row(draft.thing, noted));
    }
    draft.tell("both_nothing", Expected::Agreed, Sides { decision, rows, said: Vec::new() });
}

fn last_moment(draft: &mut Draft<'_>) {
    let noted = draft.at + WAIT;
    let (_, sides) = both(draft, noted);
    draft.tell("last_moment", Expected::Agreed, sides);
}

fn early(draft: &mut Draft<'_>) {
    let noted = draft.at - EARLY;
    let (_, mut sides) = both(draft, noted);
    // A row may carry an older time; an event is logged after its cause.
    sides.said[0].0 = draft.at + 10;
    draft.tell("early", Expected::Agreed, sides);
}

fn mended(draft: &mut Draft<'_>) {
    let noted = draft.answered() + 1_000;
    let (appraisal, mut sides) = both(draft, noted);
    let mut first = appraisal.clone();
    first.move_away(1, draft.rng);
    sides.rows.insert(0, first.row(draft.thing, noted - 500));
    draft.tell("mended", Expected::Agreed, sides);
}

/// Two events of a thing of their own, the second before the first one's wait is over.
fn hurried(draft: &mut Draft<'_>) {
    let gap = draft.rng.i64(5_000..WAIT);
    draft.thing = id(draft.rng);
    let noted = draft.at + draft.rng.i64(50..gap - EARLY);
    let (_, sides) = both(draft, noted);
    draft.tell("hurried", Expected::Agreed, sides);
    draft.at += gap;
    same(draft);
}

/// The same, and the old system made one row of both.
fn overtaken(draft: &mut Draft<'_>) {
    draft.thing = id(draft.rng);
    let noted = draft.at + 100;
    let (_, mut sides) = both(draft, noted);
    sides.rows.clear();
    draft.tell("overtaken", Expected::Overtaken, sides);
    draft.at += draft.rng.i64(2_000..WAIT);
    same(draft);
}

fn id(rng: &mut Rng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.u128(..).to_le_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_exactly_the_differences_that_were_asked_for_and_each_kind_of_them() {
        for seed in 0..20 {
            let plan = Plan::draw(seed, Counts { differences: 100, nearly: 50, others: 200 });
            assert_eq!(plan.differences(), 100, "seed {seed}");
            let kinds = plan.kinds();
            assert_eq!((kinds["nearly"], kinds.len()), (50, 18), "{kinds:?}");
            assert!(kinds.values().all(|n| *n > 0), "{kinds:?}");
        }
    }

    #[test]
    fn the_same_seed_tells_the_same() {
        let draw = |seed| Plan::draw(seed, Counts { differences: 30, nearly: 5, others: 30 });
        let ids = |plan: &Plan| plan.stories.iter().map(|story| (story.event_id, story.at)).collect::<Vec<_>>();
        assert_eq!(ids(&draw(7)), ids(&draw(7)));
        assert_ne!(ids(&draw(7)), ids(&draw(8)));
    }
}
