//! Judges what was gathered. Pure.

use super::{Check, Delivery, Effects, Facts, Logged, Tally, Verdict, Witnessed};
use crate::{
    agents::{ECHOED, Fate, WRITTEN, fate},
    workload::{Outcome, VERSION_OF_TOMORROW},
};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// How many deaths of a process with an event alone in its hands park the event (the runtime's `suspect`).
pub const DEATHS_TO_PARK: u64 = 3;

/// Judges what stands in the database by what was wanted and by what was seen outside of it.
#[must_use]
pub fn judge(facts: &Facts, intents: &[(Uuid, Outcome)], witnessed: &Witnessed) -> Verdict {
    let mut verdict = Verdict { events: facts.events.len() as u64, ..Verdict::default() };
    if !intents.iter().any(|(_, outcome)| *outcome == Outcome::Ok) {
        verdict.find(Check::Untested, "no writer was told that anything is committed");
    }
    for agent in ["echo", "tally"].into_iter().filter(|agent| !facts.hears.contains_key(*agent)) {
        verdict.find(Check::Untested, format!("{agent} is not registered"));
    }
    table(facts, intents, &mut verdict);
    for (agent, hears) in &facts.hears {
        let tally = deliveries(facts, agent, hears, &mut verdict);
        balance(facts, agent, &tally, &mut verdict);
        verdict.agents.insert(agent.clone(), tally);
    }
    effects_without_event(facts, &mut verdict);
    dead_letters(facts, witnessed, &mut verdict);
    if verdict.died * DEATHS_TO_PARK > witnessed.deaths {
        let line = format!("{} events are parked for dead processes, and {} died", verdict.died, witnessed.deaths);
        verdict.find(Check::Misparked, line);
    }
    let Witnessed { sighting, unseen, .. } = witnessed;
    for event in &facts.events {
        if event.seq == 0 {
            verdict.find(Check::Lost, format!("{} stands in the table and not in the log", event.id));
        } else if !event.pending && unseen.contains(&event.seq) {
            verdict.find(Check::Unpublished, format!("{} left the outbox, and no topic has ever seen it", event.id));
        }
    }
    facts.inverted.iter().for_each(|line| verdict.find(Check::Inverted, line.clone()));
    for (check, count) in [
        (Check::Disordered, sighting.out_of_order),
        (Check::Overlapping, sighting.overlapping),
        (Check::TooLarge, sighting.too_large),
    ] {
        (0..count).for_each(|_| verdict.find(check, sighting.examples.join("; ")));
    }
    verdict
}

/// The table against what the writers were told, and each event that an agent says against what it was said of.
fn table(facts: &Facts, intents: &[(Uuid, Outcome)], verdict: &mut Verdict) {
    let there: HashSet<Uuid> = facts.events.iter().map(|event| event.id).collect();
    let told: HashMap<Uuid, Outcome> = intents.iter().copied().collect();
    for (id, outcome) in intents {
        match (outcome, there.contains(id)) {
            (Outcome::Ok, false) => verdict.find(Check::Lost, format!("{id} was committed and is not in the table")),
            (Outcome::Fail, true) => {
                verdict.find(Check::Phantom, format!("{id} was not committed and is in the table"))
            }
            (Outcome::Unknown, true) => verdict.unknown_committed += 1,
            _ => {}
        }
    }
    let mut said: HashMap<Uuid, u64> = HashMap::new();
    for event in &facts.events {
        match event.event_type.as_str() {
            WRITTEN if !told.contains_key(&event.id) => {
                verdict.find(Check::Phantom, format!("nobody has written {}", event.id));
            }
            ECHOED => match event.cause {
                Some(cause) if there.contains(&cause) => *said.entry(cause).or_default() += 1,
                _ => verdict.find(Check::Phantom, format!("{} follows from nothing", event.id)),
            },
            _ => {}
        }
    }
    for event in facts.events.iter().filter(|event| event.event_type == WRITTEN) {
        let effects = facts.effects.get(&("echo".to_owned(), event.id)).copied().unwrap_or_default();
        match (said.get(&event.id).copied().unwrap_or_default(), effects.new) {
            (0, 0) | (1, 1..) => {}
            (0, _) => verdict.find(Check::Lost, format!("echo has done {} and said nothing of it", event.id)),
            (1, 0) => verdict.find(Check::Phantom, format!("echo has said what it has not done: {}", event.id)),
            _ => verdict.find(Check::Doubled, format!("echo has said twice that {} was written", event.id)),
        }
    }
}

/// Every delivery of one agent against its effects and its drawn fate.
fn deliveries(facts: &Facts, agent: &str, hears: &str, verdict: &mut Verdict) -> Tally {
    let mut tally = Tally::default();
    for event in facts.events.iter().filter(|event| event.event_type == hears) {
        tally.subscribed += 1;
        let key = (agent.to_owned(), event.id);
        let effects = facts.effects.get(&key).copied().unwrap_or_default();
        if effects.new + effects.old > 1 {
            let line =
                format!("{agent} has done {} {} times, the old system {} times", event.id, effects.new, effects.old);
            verdict.find(Check::Doubled, line);
        }
        let expected = expected(agent, event);
        attempts(facts, &key, expected.is_none(), verdict);
        let Some(delivery) = facts.deliveries.get(&key) else {
            tally.pending += 1;
            verdict.find(Check::Unsettled, format!("{agent} has no delivery of {}", event.id));
            continue;
        };
        match delivery.state {
            'd' => tally.done += 1,
            's' | 'e' => tally.superseded += 1,
            'p' => *tally.parked.entry(delivery.reason.clone().unwrap_or_default()).or_default() += 1,
            _ => tally.pending += 1,
        }
        one(agent, event, delivery, effects, expected, verdict);
        match delivery.state {
            's' if !overtaken(facts, agent, event) => {
                verdict
                    .find(Check::Lost, format!("{} is superseded at {agent}, and nothing newer was written", event.id));
            }
            'e' => verdict.find(Check::Lost, format!("{} has expired at {agent}, where nothing expires", event.id)),
            _ => {}
        }
    }
    tally
}

fn one(
    agent: &str,
    event: &Logged,
    delivery: &Delivery,
    effects: Effects,
    expected: Option<&str>,
    verdict: &mut Verdict,
) {
    let of = format!("{} (sequence {}) at {agent}", event.id, event.seq);
    let done = if delivery.owner == 'o' { effects.old } else { effects.new };
    let elsewhere = if delivery.owner == 'o' { effects.new } else { effects.old };
    if elsewhere > 0 {
        verdict.find(Check::Doubled, format!("{of} was done by the side that does not own it"));
    }
    match delivery.state {
        'd' if done == 0 => verdict.find(Check::Lost, format!("{of} is done, and nothing was done")),
        's' | 'e' | 'p' if done > 0 => {
            verdict.find(Check::Undone, format!("{of} is not done, and its effect is there"))
        }
        'a' | 'f' => verdict.find(Check::Unsettled, format!("{of} is neither settled nor parked")),
        _ => {}
    }
    if delivery.owner == 'o' {
        return; // the old system has no fates
    }
    match (delivery.state, delivery.reason.as_deref(), expected) {
        // Kills at random may hit the same event again and again; a person sees it and redrives it.
        ('p', Some("process_died"), _) => verdict.died += 1,
        ('p', reason, expected) if reason != expected => {
            verdict.find(Check::Misparked, format!("{of} is parked as {reason:?}, expected {expected:?}"));
        }
        ('d' | 's', _, Some(reason)) => verdict.find(Check::Misparked, format!("{of} is done, expected {reason}")),
        _ => {}
    }
}

/// Whether something newer stands where this event would have been written. Only `tally` overwrites anything.
fn overtaken(facts: &Facts, agent: &str, event: &Logged) -> bool {
    agent == "tally" && facts.newest.get(&event.aggregate).is_some_and(|newest| *newest > event.seq)
}

/// Whatever is parked is in the dead-letter queue, but for what never got an answer, of which there is no message; and so is every body that
/// can never be handled, with a note of it in the ledger.
fn dead_letters(facts: &Facts, witnessed: &Witnessed, verdict: &mut Verdict) {
    let there: HashSet<(&str, Uuid)> = witnessed
        .dead_letters
        .iter()
        .filter_map(|dead_letter| Some((dead_letter.agent.as_str(), dead_letter.event?)))
        .collect();
    for ((agent, id), delivery) in facts.deliveries.iter().filter(|(_, delivery)| delivery.state == 'p') {
        if delivery.reason.as_deref() != Some("unanswered") && !there.contains(&(agent.as_str(), *id)) {
            verdict.find(
                Check::Unburied,
                format!("{id} is parked for {agent} as {:?}, without a dead letter", delivery.reason),
            );
        }
    }
    let bodies: HashSet<(&str, &str)> = witnessed
        .dead_letters
        .iter()
        .map(|dead_letter| (dead_letter.agent.as_str(), dead_letter.body.as_str()))
        .collect();
    let mut put: HashMap<&str, u64> = HashMap::new();
    for (agent, body) in &witnessed.strangers {
        *put.entry(agent).or_default() += 1;
        if !bodies.contains(&(agent.as_str(), body.as_str())) {
            verdict.find(
                Check::Unburied,
                format!("{agent} was given what is no event, and no dead letter has it: {body}"),
            );
        }
    }
    for (agent, put) in put {
        let noted = facts.unmatched.get(agent).copied().unwrap_or_default();
        if noted < put {
            verdict
                .find(Check::Unburied, format!("{agent} was given {put} bodies that are no events, and notes {noted}"));
        }
    }
}

/// The reason that an event should be parked with.
fn expected(agent: &str, event: &Logged) -> Option<&'static str> {
    if event.version >= VERSION_OF_TOMORROW { Some("unknown_version") } else { fate(agent, event.id).parked() }
}

/// Attempts are spent by events that fail by themselves, and by nothing else.
fn attempts(facts: &Facts, key: &(String, Uuid), should_pass: bool, verdict: &mut Verdict) {
    if should_pass
        && fate(&key.0, key.1) == Fate::Fine
        && let Some((count, error)) = facts.failures.get(key)
    {
        verdict.find(Check::Spent, format!("{} has cost {} {count} attempts: {error}", key.1, key.0));
    }
}

/// The ledger's own sums against the rows.
fn balance(facts: &Facts, agent: &str, tally: &Tally, verdict: &mut Verdict) {
    let Some(ledger) = facts.ledgers.get(agent) else {
        return verdict.find(Check::Unbalanced, format!("{agent} has no ledger"));
    };
    let parked: u64 = tally.parked.values().sum();
    let pending = ledger.pending + ledger.assigned + ledger.assigned_old + ledger.failing;
    let theirs = [ledger.subscribed, ledger.done, ledger.parked, ledger.superseded + ledger.expired, pending];
    let ours = [tally.subscribed, tally.done, parked, tally.superseded, tally.pending];
    let ours = ours.map(|sum| i64::try_from(sum).unwrap_or(i64::MAX));
    if theirs != ours || ours[0] != ours[1..].iter().sum::<i64>() {
        let line =
            format!("{agent}: the ledger says {theirs:?}, its rows {ours:?} (in, done, parked, superseded, pending)");
        verdict.find(Check::Unbalanced, line);
    }
}

fn effects_without_event(facts: &Facts, verdict: &mut Verdict) {
    let there: HashSet<Uuid> = facts.events.iter().map(|event| event.id).collect();
    for (agent, id) in facts.effects.keys().filter(|(_, id)| !there.contains(id)) {
        verdict.find(Check::Phantom, format!("{agent} has done {id}, which is in no table"));
    }
}

#[cfg(test)]
mod tests;
