use super::*;
use crate::agents::{ECHOED, WRITTEN};
use switchyard_store::Ledger;

/// An id whose fate at both agents is this one.
fn fated(wanted: Fate, nth: usize) -> Uuid {
    (0_u128..)
        .map(Uuid::from_u128)
        .filter(|id| ["echo", "tally"].iter().all(|agent| fate(agent, *id) == wanted))
        .nth(nth)
        .unwrap()
}

fn event(id: Uuid, seq: i64, event_type: &str, cause: Option<Uuid>) -> Logged {
    Logged { id, seq, event_type: event_type.into(), version: 1, cause, pending: false }
}

fn delivery(state: char) -> Delivery {
    Delivery { state, owner: 'n', reason: None }
}

/// Two events, written and echoed, all of it done: nothing to find.
struct Story {
    facts: Facts,
    intents: Vec<(Uuid, Outcome)>,
    written: Uuid,
    echoed: Uuid,
}

impl Story {
    fn happy() -> Self {
        let (written, echoed) = (fated(Fate::Fine, 0), fated(Fate::Fine, 1));
        let mut facts = Facts {
            events: vec![event(written, 1, WRITTEN, None), event(echoed, 2, ECHOED, Some(written))],
            hears: [("echo".to_owned(), WRITTEN.to_owned()), ("tally".to_owned(), ECHOED.to_owned())].into(),
            ..Facts::default()
        };
        for (agent, id) in [("echo", written), ("tally", echoed)] {
            facts.deliveries.insert((agent.into(), id), delivery('d'));
            facts.effects.insert((agent.into(), id), Effects { new: 1, old: 0 });
            facts.ledgers.insert(agent.into(), Ledger { subscribed: 1, done: 1, ..Ledger::default() });
        }
        Self { facts, intents: vec![(written, Outcome::Ok)], written, echoed }
    }

    fn judged(&self) -> Verdict {
        judge(&self.facts, &self.intents, &Sighting::default(), &HashSet::new())
    }

    fn found(&self) -> Vec<Check> {
        self.judged().violations.into_keys().collect()
    }

    fn tally(&mut self) -> (String, Uuid) {
        ("tally".into(), self.echoed)
    }
}

#[test]
fn a_story_in_which_all_is_done_has_nothing_to_find() {
    let story = Story::happy();
    assert_eq!(story.judged().examples, std::collections::BTreeMap::new());
    assert!((story.judged().agents["echo"].settled_share() - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_committed_event_that_is_not_there_is_lost_and_an_uncommitted_one_that_is_there_a_phantom() {
    let mut story = Story::happy();
    story.intents.push((Uuid::from_u128(7), Outcome::Ok));
    assert_eq!(story.found(), [Check::Lost]);
    story.intents = vec![(story.written, Outcome::Fail)];
    assert_eq!(story.found(), [Check::Phantom]);
    story.intents = vec![];
    assert_eq!(story.found(), [Check::Phantom], "nobody has written it");
}

#[test]
fn the_table_decides_what_nobody_was_told() {
    let mut story = Story::happy();
    story.intents = vec![(story.written, Outcome::Unknown), (Uuid::from_u128(7), Outcome::Unknown)];
    assert_eq!((story.found(), story.judged().unknown_committed), (vec![], 1));
}

#[test]
fn an_effect_too_many_is_doubled_and_one_too_few_is_lost() {
    let mut story = Story::happy();
    let tally = story.tally();
    story.facts.effects.insert(tally.clone(), Effects { new: 2, old: 0 });
    assert_eq!(story.found(), [Check::Doubled]);
    story.facts.effects.remove(&tally);
    assert_eq!(story.found(), [Check::Lost]);
}

#[test]
fn what_the_old_system_does_for_an_event_that_is_the_agent_s_is_doubled() {
    let mut story = Story::happy();
    let tally = story.tally();
    story.facts.effects.insert(tally, Effects { new: 1, old: 1 });
    assert_eq!(story.found(), [Check::Doubled]);
}

#[test]
fn what_was_done_and_not_said_is_lost_and_what_was_said_and_not_done_a_phantom() {
    let mut story = Story::happy();
    story.facts.effects.remove(&("echo".into(), story.written));
    assert_eq!(story.found(), [Check::Lost, Check::Phantom], "and the delivery that is done has no effect");
    let mut story = Story::happy();
    story.facts.events.pop();
    let found = story.found();
    assert!(found.contains(&Check::Lost) && found.contains(&Check::Phantom), "{found:?}");
}

#[test]
fn what_is_superseded_or_parked_must_have_no_effect() {
    let mut story = Story::happy();
    let tally = story.tally();
    story.facts.deliveries.insert(tally.clone(), delivery('s'));
    story.facts.ledgers.insert("tally".into(), Ledger { subscribed: 1, superseded: 1, ..Ledger::default() });
    assert_eq!(story.found(), [Check::Undone]);
    story.facts.effects.remove(&tally);
    assert_eq!(story.found(), []);
}

#[test]
fn a_delivery_that_is_missing_or_not_final_is_unsettled() {
    let mut story = Story::happy();
    let tally = story.tally();
    story.facts.effects.remove(&tally);
    story.facts.deliveries.insert(tally.clone(), delivery('f'));
    story.facts.ledgers.insert("tally".into(), Ledger { subscribed: 1, failing: 1, ..Ledger::default() });
    assert_eq!(story.found(), [Check::Unsettled]);
    story.facts.deliveries.remove(&tally);
    assert_eq!(story.found(), [Check::Unsettled]);
    assert!(story.judged().agents["tally"].settled_share() < f64::EPSILON);
}

#[test]
fn parked_is_what_was_drawn_to_be_and_nothing_else() {
    let mut story = Story::happy();
    let tally = story.tally();
    story.facts.effects.remove(&tally);
    story.facts.ledgers.insert("tally".into(), Ledger { subscribed: 1, parked: 1, ..Ledger::default() });
    story.facts.deliveries.insert(tally.clone(), Delivery { reason: Some("drawn".into()), ..delivery('p') });
    assert_eq!(story.found(), [Check::Misparked]);
    story.facts.deliveries.insert(tally.clone(), Delivery { reason: Some("unknown_version".into()), ..delivery('p') });
    story.facts.events[1].version = VERSION_OF_TOMORROW;
    assert_eq!(story.found(), []);
    story.facts.deliveries.insert(tally, Delivery { reason: Some("process_died".into()), ..delivery('p') });
    assert_eq!((story.found(), story.judged().died), (vec![], 1));
}

#[test]
fn an_attempt_that_nothing_of_the_event_s_own_has_cost_is_found() {
    let mut story = Story::happy();
    let tally = story.tally();
    story.facts.failures.insert(tally, (1, "failed: the server went away".into()));
    assert_eq!(story.found(), [Check::Spent]);
}

#[test]
fn a_ledger_that_counts_otherwise_than_its_rows_is_unbalanced() {
    let mut story = Story::happy();
    story.facts.ledgers.insert("tally".into(), Ledger { subscribed: 1, pending: 1, ..Ledger::default() });
    assert_eq!(story.found(), [Check::Unbalanced]);
}

#[test]
fn what_left_the_outbox_and_was_never_seen_is_unpublished_and_what_waits_there_is_not() {
    let mut story = Story::happy();
    let unseen = HashSet::from([1]);
    let found = |story: &Story| {
        let verdict = judge(&story.facts, &story.intents, &Sighting::default(), &unseen);
        verdict.violations.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(found(&story), [Check::Unpublished]);
    story.facts.events[0].pending = true;
    assert_eq!(found(&story), []);
}

#[test]
fn what_the_topic_saw_is_found_too() {
    let story = Story::happy();
    let sighting = Sighting { out_of_order: 2, overlapping: 1, too_large: 1, ..Sighting::default() };
    let verdict = judge(&story.facts, &story.intents, &sighting, &HashSet::new());
    let counts: Vec<_> = verdict.violations.into_iter().collect();
    assert_eq!(counts, [(Check::Disordered, 2), (Check::Overlapping, 1), (Check::TooLarge, 1)]);
}
