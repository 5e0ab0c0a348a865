use super::*;
use crate::{
    agents::{ECHOED, WRITTEN},
    broker::Sighting,
    checker::DeadLetter,
};
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
    Logged { id, seq, event_type: event_type.into(), aggregate: "it".into(), version: 1, cause, pending: false }
}

fn delivery(state: char) -> Delivery {
    Delivery { state, owner: 'n', reason: None }
}

/// Two events, written and echoed, all of it done: nothing to find.
struct Story {
    facts: Facts,
    intents: Vec<(Uuid, Outcome)>,
    witnessed: Witnessed,
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
        Self { facts, intents: vec![(written, Outcome::Ok)], witnessed: Witnessed::default(), written, echoed }
    }

    fn judged(&self) -> Verdict {
        judge(&self.facts, &self.intents, &self.witnessed)
    }

    fn found(&self) -> Vec<Check> {
        self.judged().violations.into_keys().collect()
    }

    fn tally(&mut self) -> (String, Uuid) {
        ("tally".into(), self.echoed)
    }

    /// Another event that was committed: it is in the table, and no agent receives it.
    fn other(&mut self) -> (Uuid, Outcome) {
        let id = fated(Fate::Fine, 2);
        self.facts.events.push(event(id, 3, "fault.other", None));
        (id, Outcome::Ok)
    }

    /// Parks the echo at `tally`, with its dead letter.
    fn park(&mut self, reason: &str) {
        let tally = self.tally();
        self.facts.effects.remove(&tally);
        self.facts.ledgers.insert("tally".into(), Ledger { subscribed: 1, parked: 1, ..Ledger::default() });
        self.facts.deliveries.insert(tally, Delivery { reason: Some(reason.into()), ..delivery('p') });
        self.witnessed.dead_letters =
            vec![DeadLetter { agent: "tally".into(), event: Some(self.echoed), body: "body".into() }];
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
    let mut story = Story::happy();
    let other = story.other();
    story.intents = vec![(story.written, Outcome::Fail), other];
    assert_eq!(story.found(), [Check::Phantom]);
    story.intents = vec![other];
    assert_eq!(story.found(), [Check::Phantom], "nobody has written it");
}

#[test]
fn the_table_decides_about_a_write_without_an_answer() {
    let mut story = Story::happy();
    let other = story.other();
    story.intents = vec![(story.written, Outcome::Unknown), (Uuid::from_u128(7), Outcome::Unknown), other];
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
    story.facts.newest.insert("it".into(), 3);
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
fn superseded_is_only_what_something_newer_was_written_over_and_nothing_expires() {
    let mut story = Story::happy();
    let tally = story.tally();
    story.facts.effects.remove(&tally);
    story.facts.ledgers.insert("tally".into(), Ledger { subscribed: 1, superseded: 1, ..Ledger::default() });
    story.facts.deliveries.insert(tally.clone(), delivery('s'));
    assert_eq!(story.found(), [Check::Lost], "nothing was written at all");
    story.facts.newest.insert("it".into(), 2);
    assert_eq!(story.found(), [Check::Lost], "only itself");
    story.facts.newest.insert("it".into(), 3);
    assert_eq!(story.found(), []);
    story.facts.ledgers.insert("tally".into(), Ledger { subscribed: 1, expired: 1, ..Ledger::default() });
    story.facts.deliveries.insert(tally, delivery('e'));
    assert_eq!(story.found(), [Check::Lost]);
}

#[test]
fn an_agent_that_overwrites_nothing_has_nothing_superseded() {
    let mut story = Story::happy();
    let echo = ("echo".to_owned(), story.written);
    story.facts.effects.remove(&echo);
    story.facts.events.pop();
    let tally = story.tally();
    story.facts.effects.remove(&tally);
    story.facts.deliveries.remove(&tally);
    story.facts.ledgers.insert("tally".into(), Ledger::default());
    story.facts.ledgers.insert("echo".into(), Ledger { subscribed: 1, superseded: 1, ..Ledger::default() });
    story.facts.deliveries.insert(echo, delivery('s'));
    story.facts.newest.insert("it".into(), 3);
    assert_eq!(story.found(), [Check::Lost]);
}

#[test]
fn parked_is_what_was_drawn_to_be_and_nothing_else() {
    let mut story = Story::happy();
    story.park("drawn");
    assert_eq!(story.found(), [Check::Misparked]);
    story.park("unknown_version");
    story.facts.events[1].version = VERSION_OF_TOMORROW;
    assert_eq!(story.found(), []);
}

#[test]
fn an_event_may_be_parked_for_dead_processes_where_enough_of_them_died() {
    let mut story = Story::happy();
    story.park("process_died");
    story.witnessed.deaths = 3;
    assert_eq!((story.found(), story.judged().died), (vec![], 1));
    story.witnessed.deaths = 2;
    assert_eq!(story.found(), [Check::Misparked]);
}

#[test]
fn what_is_parked_has_a_letter_unless_there_was_never_an_answer() {
    let mut story = Story::happy();
    story.facts.events[1].version = VERSION_OF_TOMORROW;
    story.park("unknown_version");
    story.witnessed.dead_letters[0].agent = "echo".into();
    assert_eq!(story.found(), [Check::Unburied], "somebody else's dead letter");
    story.park("unanswered");
    story.witnessed.dead_letters.clear();
    assert_eq!(story.found(), [Check::Misparked]);
}

#[test]
fn a_body_that_is_no_event_becomes_a_letter_and_a_note() {
    let mut story = Story::happy();
    story.witnessed.strangers = [("echo".into(), "no event".into())].into();
    assert_eq!((story.found(), story.judged().violations[&Check::Unburied]), (vec![Check::Unburied], 2));
    story.witnessed.dead_letters = vec![DeadLetter { agent: "echo".into(), event: None, body: "no event".into() }];
    assert_eq!((story.found(), story.judged().violations[&Check::Unburied]), (vec![Check::Unburied], 1), "no note");
    story.facts.unmatched.insert("echo".into(), 1);
    assert_eq!(story.found(), []);
}

#[test]
fn a_run_without_work_or_without_an_agent_has_tested_nothing() {
    let nothing = judge(&Facts::default(), &[], &Witnessed::default());
    assert_eq!(nothing.violations, [(Check::Untested, 3)].into());
    let mut story = Story::happy();
    story.intents[0].1 = Outcome::Unknown;
    assert_eq!(story.found(), [Check::Untested]);
    let mut story = Story::happy();
    story.facts.ledgers.remove("tally");
    assert_eq!(story.found(), [Check::Unbalanced]);
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
    story.witnessed.unseen = HashSet::from([1]);
    assert_eq!(story.found(), [Check::Unpublished]);
    story.facts.events[0].pending = true;
    assert_eq!(story.found(), []);
}

#[test]
fn what_the_topic_saw_is_found_too() {
    let mut story = Story::happy();
    story.witnessed.sighting = Sighting { out_of_order: 2, overlapping: 1, too_large: 1, ..Sighting::default() };
    let counts: Vec<_> = story.judged().violations.into_iter().collect();
    assert_eq!(counts, [(Check::Disordered, 2), (Check::Overlapping, 1), (Check::TooLarge, 1)]);
}
