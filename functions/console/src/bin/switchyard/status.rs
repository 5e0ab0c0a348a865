//! `switchyard status`: how each agent stands.

use crate::{
    cutover,
    failure::Failure,
    functions::Stack,
    style::{RED, alarming, cell, count, paint, print_line, short, table},
};
use comfy_table::{Cell, Color};
use jiff::Timestamp;
use switchyard_operations::{
    breaker::{Breaker, BreakerState},
    status::{Deliveries, PausedBy, Standing, Status},
    steward::Request,
};

/// Every agent, one line each, and what is wrong below.
pub(crate) async fn run(stack: &Stack, print: bool) -> Result<(), Failure> {
    let status: Status = stack.ask_steward(&Request::Status, print).await?;
    if !print {
        print_line(page(&status, Timestamp::now()));
    }
    Ok(())
}

fn page(status: &Status, now: Timestamp) -> String {
    if status.agents.is_empty() {
        return "the stack has no agents".into();
    }
    let rows = status.agents.iter().map(row).collect();
    let titles =
        ["AGENT", "#SETTLED", "#PENDING", "#PARKED", "#QUEUE", "#DEAD-LETTERS", "#UNDELIVERED", "BREAKER", "FLOWS"];
    let mut page = vec![table(&titles, rows)];
    let of_agents =
        status.agents.iter().flat_map(|agent| agent.troubles.iter().map(|trouble| (Some(&agent.agent), trouble)));
    let aside = status.unpublishable.filter(|n| *n > 0).map(|n| {
        let events = count(n, "event");
        format!("{} {events} could not be published; no agent receives them: switchyard outbox", paint(RED, "!"))
    });
    let troubles: Vec<String> = status
        .troubles
        .iter()
        .map(|trouble| (None, trouble))
        .chain(of_agents)
        .map(|(agent, trouble)| {
            let of = agent.map(|agent| format!("{agent}: ")).unwrap_or_default();
            format!("{} {of}{}", paint(RED, "!"), short(trouble, 300))
        })
        .collect();
    let mut below: Vec<String> = under_way(status, now);
    below.extend(aside);
    below.extend(troubles);
    if !below.is_empty() {
        page.push(String::new());
        page.extend(below);
    }
    page.join("\n")
}

/// What moves an agent's events just now: where to look is named, since this line says only that.
fn under_way(status: &Status, now: Timestamp) -> Vec<String> {
    let cutover = |plan| {
        let line = cutover::headline(plan, now);
        format!("cutover of {line}: switchyard cutover {} status", plan.agent)
    };
    let backfill = |agent| format!("backfill of {agent}: running: switchyard backfill {agent} --progress");
    status.cutovers.iter().map(cutover).chain(status.backfills.iter().map(backfill)).collect()
}

fn row(agent: &Standing) -> Vec<Cell> {
    let number = |n: Option<u64>| cell(n.map(|n| n.to_string()).unwrap_or_default());
    let of_ledger = |n: fn(&Deliveries) -> i64| agent.deliveries.as_ref().map(|deliveries| n(deliveries).to_string());
    let parked = match &agent.deliveries {
        Some(deliveries) if deliveries.parked > 0 => alarming(deliveries.parked, Color::Yellow),
        Some(_) => cell(0),
        None => cell(""),
    };
    vec![
        cell(&agent.agent),
        cell(of_ledger(|deliveries| deliveries.settled).unwrap_or_default()),
        cell(of_ledger(|deliveries| deliveries.pending).unwrap_or_default()),
        parked,
        number(agent.queue.map(|queue| queue.total())),
        number(agent.dead_letters),
        number(agent.undelivered),
        agent.breaker.as_ref().map_or_else(|| cell(""), breaker),
        flows(agent),
    ]
}

/// A breaker in a few words.
pub(crate) fn breaker(breaker: &Breaker) -> Cell {
    let color = match breaker.state {
        BreakerState::Closed => Color::Green,
        BreakerState::Open => Color::Red,
        BreakerState::HalfOpen => Color::Yellow,
    };
    let by_operator = if breaker.forced { " (forced)" } else { "" };
    alarming(format!("{}{by_operator}", breaker.state.name().replace('_', "-")), color)
}

fn flows(agent: &Standing) -> Cell {
    match (agent.flows, agent.paused_by) {
        (Some(true), _) => cell("yes"),
        (Some(false), Some(PausedBy::Steward)) => cell("paused by the steward"),
        (Some(false), Some(PausedBy::Operator)) => alarming("paused by an operator", Color::Yellow),
        (Some(false), None) => cell("no"),
        (None, _) => cell("?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_operations::status::Queue;

    #[test]
    fn a_line_says_what_is_parked_and_what_stands_still() {
        let agent = Standing {
            agent: "sentiment".into(),
            deliveries: Some(Deliveries { settled: 10, pending: 2, parked: 3, old: 0 }),
            flows: Some(false),
            paused_by: Some(PausedBy::Operator),
            queue: Some(Queue { waiting: 1, in_flight: 1, delayed: 0 }),
            troubles: vec!["its queue does not answer".into()],
            ..Standing::default()
        };
        let (cutovers, backfills) = (vec![cutover::tests::paused()], vec!["sentiment".to_owned()]);
        let status = Status { agents: vec![agent], unpublishable: Some(2), cutovers, backfills, ..Status::default() };
        let page = page(&status, "2026-01-05T12:00:00Z".parse().unwrap());
        for words in [
            "sentiment",
            "paused by an operator",
            "its queue does not answer",
            "2 events could not be published",
            "painter: paused by a limit at 25 percent",
            "switchyard cutover painter status",
            "switchyard backfill sentiment --progress",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
    }
}
