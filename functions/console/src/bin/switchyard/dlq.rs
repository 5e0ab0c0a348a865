//! `switchyard dlq`: what lies in the dead-letter queues, and why.

use crate::selection::Only;
use crate::{
    failure::Failure,
    functions::Stack,
    selection,
    style::{BOLD, DIM, GREEN, YELLOW, alarming, cell, count, paint, print_line, short, table},
    when::{age, since},
};
use clap::Args;
use comfy_table::{Cell, Color};
use jiff::Timestamp;
use switchyard_operations::redrive::{DeadLetterQueue, Inspected, Kind, Listed, Moving, Request};

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The agent; all dead-letter queues when left out
    pub(crate) agent: Option<String>,
    /// How many dead letters of the queue to inspect
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) at_most: u16,
    #[command(flatten)]
    pub(crate) only: Only,
}

/// All queues, or one agent's groups.
pub(crate) async fn run(stack: &Stack, dlq: Options, json: bool) -> Result<(), Failure> {
    let now = Timestamp::now();
    let Some(agent) = dlq.agent else {
        let listed: Listed = stack.ask(&Request::List {}, json).await?;
        if !json {
            print_line(page(&listed));
        }
        return Ok(());
    };
    let selection = selection::of(&dlq.only, now);
    let inspected: Inspected = stack.ask(&Request::Inspect { agent, selection, at_most: dlq.at_most }, json).await?;
    if !json {
        print_line(groups(&inspected, now));
    }
    Ok(())
}

fn page(listed: &Listed) -> String {
    if listed.queues.is_empty() {
        return "the stack has no agents, so no dead-letter queues".into();
    }
    let rows = listed.queues.iter().map(row).collect();
    let mut page = table(&["AGENT", "HOLDS", "#MESSAGES", "OLDEST", "#PARKED", "MOVING"], rows);
    let waiting = listed.queues.iter().any(|queue| queue.waiting > 0 || queue.parked.unwrap_or(0) > 0);
    let hint = if waiting { "Why? switchyard dlq AGENT" } else { "Nothing is parked." };
    page.push_str(&format!("\n\n{}", paint(if waiting { DIM } else { GREEN }, hint)));
    page
}

fn row(queue: &DeadLetterQueue) -> Vec<Cell> {
    let holds = match queue.kind {
        Kind::Agent => "parked by the agent",
        Kind::Subscription => "undelivered by SNS",
    };
    let dead_letters = match (&queue.error, queue.waiting, queue.in_flight) {
        (Some(error), ..) => alarming(short(error, 60), Color::Red),
        (None, 0, 0) => cell(0),
        (None, waiting, 0) => alarming(waiting, Color::Yellow),
        (None, waiting, default_at_most) => alarming(format!("{waiting} +{default_at_most} in use"), Color::Yellow),
    };
    vec![
        cell(&queue.agent),
        cell(holds),
        dead_letters,
        cell(queue.oldest_secs.map(age).unwrap_or_default()),
        cell(queue.parked.map(|parked| parked.to_string()).unwrap_or_default()),
        cell(queue.moving.as_ref().map(moving).unwrap_or_default()),
    ]
}

/// A move task in a few words.
pub(crate) fn moving(task: &Moving) -> String {
    let of = task.to_move.map(|all| format!(" of {all}")).unwrap_or_default();
    let failure = task.failure.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{} {}{of}{failure}", task.status.to_lowercase(), task.moved)
}

/// What is parked for an agent.
fn groups(inspected: &Inspected, now: Timestamp) -> String {
    let mut page = Vec::new();
    if inspected.groups.is_empty() {
        page.push(format!("{} nothing of {} is parked", paint(GREEN, "ok:"), inspected.agent));
    } else {
        let title = format!("{} of {} parked", count(inspected.parked, "delivery"), inspected.agent);
        page.push(paint(BOLD, title));
        page.extend(inspected.groups.iter().map(|group| {
            let of = group.event_type.as_deref().unwrap_or("no event");
            let mut lines = vec![format!(
                "\n  {} × {}  {of}  {}",
                group.count,
                paint(YELLOW, &group.reason),
                paint(DIM, format!("from {} to {}", since(&group.oldest, now), since(&group.newest, now)))
            )];
            lines.extend(group.error.as_ref().map(|error| format!("      {}", short(error, 200))));
            lines.extend(group.examples.iter().map(|id| format!("      {}", paint(DIM, id))));
            lines.join("\n")
        }));
    }
    let queue = &inspected.queue;
    if !queue.not_parked.is_empty() {
        let rows = queue.not_parked.iter().map(|group| {
            let of = group.event_type.clone().unwrap_or_default();
            vec![cell(group.count), cell(&group.reason), cell(of), cell(meaning(&group.ledger))]
        });
        page.push("\nIn the queue only:".into());
        page.push(table(&["#MESSAGES", "REASON", "TYPE", "THE LEDGER SAYS"], rows.collect()));
    }
    let all = match (queue.complete, queue.hidden) {
        (true, _) => "all of them".to_owned(),
        (false, 0) => "there are more".to_owned(),
        (false, hidden) => format!("there are more; {hidden} hidden by another reader"),
    };
    page.push(paint(DIM, format!("\ninspected {} ({all}); none was removed", count(queue.seen as u64, "dead letter"))));
    page.join("\n")
}

fn meaning(ledger: &str) -> &str {
    match ledger {
        "settled" => "settled: a copy that is not needed",
        "under_way" => "under way, and tried again without this copy",
        "no_event" => "the body names no event",
        "no_row" => "not a delivery of this agent",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_operations::redrive::{DeadLetterGroup, InspectedQueue};

    #[test]
    fn the_page_says_depth_age_and_what_is_moving() {
        let queue = DeadLetterQueue {
            agent: "sentiment".into(),
            kind: Kind::Agent,
            queue: "q".into(),
            waiting: 3,
            in_flight: 0,
            oldest_secs: Some(200),
            parked: Some(4),
            moving: Some(Moving {
                status: "RUNNING".into(),
                moved: 1,
                to_move: Some(3),
                started_at: None,
                failure: None,
            }),
            error: None,
        };
        let page = page(&Listed { queues: vec![queue] });
        for word in ["sentiment", "3m 20s", "running 1 of 3", "switchyard dlq AGENT"] {
            assert!(page.contains(word), "{word}: {page}");
        }
    }

    #[test]
    fn an_agent_without_dead_letters_is_fine() {
        let inspected = Inspected {
            agent: "sentiment".into(),
            parked: 0,
            groups: Vec::new(),
            queue: InspectedQueue { complete: true, ..InspectedQueue::default() },
        };
        assert!(groups(&inspected, Timestamp::UNIX_EPOCH).contains("nothing of sentiment is parked"));
    }

    #[test]
    fn dead_letters_that_only_the_queue_has_are_explained() {
        let stale = DeadLetterGroup { ledger: "settled".into(), reason: "no_text".into(), event_type: None, count: 2 };
        let queue = InspectedQueue { seen: 2, complete: false, hidden: 3, not_parked: vec![stale] };
        let page =
            groups(&Inspected { agent: "a".into(), parked: 0, groups: Vec::new(), queue }, Timestamp::UNIX_EPOCH);
        assert!(page.contains("a copy that is not needed") && page.contains("there are more; 3 hidden"), "{page}");
    }
}
