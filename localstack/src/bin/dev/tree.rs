//! An event as a person sees it in the stream: what it is, which agents took it, what came of it. Never its payload.

use jiff::Timestamp;
use switchyard_store::{State, StreamDelivery, StreamEvent};

use crate::style::{BOLD, CYAN, DIM, GREEN, RED, YELLOW, paint};
use crate::when;

/// How an event stands, over all agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Something is still to come, and nothing has gone wrong.
    UnderWay,
    /// An agent failed and tries again.
    Failing,
    /// Nothing more will come by itself.
    Settled,
}

/// The state of an event. Without a subscriber it is settled when the topic has it.
pub(crate) fn standing(event: &StreamEvent) -> Standing {
    let states = || event.deliveries.iter().map(|delivery| delivery.state);
    if states().any(|state| state == Some(State::Failing)) {
        Standing::Failing
    } else if event.published && states().all(|state| state.is_some_and(is_final)) {
        Standing::Settled
    } else {
        Standing::UnderWay
    }
}

/// Whether nothing more will come of a delivery by itself.
pub(crate) fn is_final(state: State) -> bool {
    match state {
        State::Parked | State::Done | State::Superseded | State::Expired => true,
        State::Assigned | State::Failing => false,
    }
}

/// The event with its agents and effects, a line for each. `cause` is the type of the event that caused it, where that is known.
pub(crate) fn render(event: &StreamEvent, cause: Option<&str>) -> Vec<String> {
    let time = event.created_at.as_deref().and_then(millis).map(when::of_millis).unwrap_or_else(|| " ".repeat(12));
    let about = format!("{} {}", event.aggregate_type, short(&event.aggregate_id));
    let mut first = format!("{}  {}  {}", paint(DIM, time), paint(BOLD, &event.event_type), paint(DIM, about));
    if let Some(cause) = cause {
        first += &paint(DIM, format!("  ← {cause}"));
    }
    if !event.published {
        first += &paint(YELLOW, "  not published yet");
    } else if event.deliveries.is_empty() {
        first += &paint(DIM, "  published; no agent subscribes");
    }
    let mut leaves: Vec<String> = event.deliveries.iter().map(|delivery| leaf(event, delivery)).collect();
    leaves
        .extend(event.children.iter().map(|child| format!("{} {}", paint(CYAN, "→"), paint(CYAN, &child.event_type))));
    let last = leaves.len().saturating_sub(1);
    let lines = leaves.iter().enumerate().map(|(n, leaf)| {
        let branch = if n == last { "└─" } else { "├─" };
        format!("{}{} {leaf}", " ".repeat(14), paint(DIM, branch))
    });
    std::iter::once(first).chain(lines).collect()
}

/// One agent's part.
fn leaf(event: &StreamEvent, delivery: &StreamDelivery) -> String {
    let (mark, text) = outcome(delivery);
    let run = if delivery.run > 0 { format!(" (replay {})", delivery.run) } else { String::new() };
    let took = match delivery.state {
        Some(State::Done) => took(event, delivery).map(|took| paint(DIM, format!(" in {took}"))).unwrap_or_default(),
        _ => String::new(),
    };
    format!("{mark} {:<12} {text}{took}{run}", delivery.agent)
}

/// The mark and the words for a delivery, with the reason where one was given.
pub(crate) fn outcome(delivery: &StreamDelivery) -> (String, String) {
    let why = delivery.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let (style, mark, text) = match delivery.state {
        None if delivery.owned_by_old => (DIM, "·", "left to the old system".to_owned()),
        None => (YELLOW, "…", "waiting".to_owned()),
        Some(State::Assigned) if delivery.owned_by_old => (DIM, "·", "left to the old system".to_owned()),
        Some(State::Assigned) => (YELLOW, "…", "waiting".to_owned()),
        Some(State::Failing) => (YELLOW, "↻", format!("failed {}, tries again{why}", times(delivery.attempts))),
        Some(State::Parked) => (RED, "✗", format!("parked in its dead-letter queue{why}")),
        Some(State::Done) if delivery.owned_by_old => (GREEN, "✓", "done by the old system".to_owned()),
        Some(State::Done) => (GREEN, "✓", "done".to_owned()),
        Some(State::Superseded) => (DIM, "·", format!("superseded{why}")),
        Some(State::Expired) => (DIM, "·", format!("expired{why}")),
    };
    (paint(style, mark), text)
}

fn times(attempts: u16) -> String {
    match attempts {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}

/// From the event's insert to the delivery's last change.
fn took(event: &StreamEvent, delivery: &StreamDelivery) -> Option<String> {
    let took = millis(delivery.at.as_deref()?)? - millis(event.created_at.as_deref()?)?;
    match took {
        0..1000 => Some(format!("{took} ms")),
        1000..60_000 => Some(format!("{}.{} s", took / 1000, took % 1000 / 100)),
        _ => None, // a replay, or a clock that was set: no measure of anything
    }
}

fn millis(moment: &str) -> Option<i64> {
    moment.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// Enough of an id to tell it from its neighbours.
fn short(id: &str) -> &str {
    id.split('-').next().unwrap_or(id)
}

#[cfg(test)]
pub(crate) mod tests {
    use switchyard_store::Child;
    use uuid::Uuid;

    use super::*;

    pub(crate) fn delivery(agent: &str, state: Option<State>) -> StreamDelivery {
        let at = state.map(|_| "2026-03-01T12:00:00.250Z".to_owned());
        StreamDelivery { agent: agent.to_owned(), run: 0, owned_by_old: false, state, attempts: 0, reason: None, at }
    }

    pub(crate) fn event(deliveries: Vec<StreamDelivery>) -> StreamEvent {
        StreamEvent {
            seq: 7,
            id: Uuid::from_u128(7),
            event_type: "feedback.created".to_owned(),
            aggregate_type: "post".to_owned(),
            aggregate_id: "3f2a91c4-0000-4000-8000-000000000000".to_owned(),
            project_id: None,
            created_at: Some("2026-03-01T12:00:00.000Z".to_owned()),
            causation_id: None,
            correlation_id: None,
            published: true,
            deliveries,
            children: Vec::new(),
        }
    }

    fn plain(event: &StreamEvent) -> Vec<String> {
        render(event, None).iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    #[test]
    fn an_event_is_settled_when_every_agent_has_settled_it() {
        let with = |states: &[Option<State>]| event(states.iter().map(|state| delivery("a", *state)).collect());
        assert_eq!(standing(&with(&[Some(State::Done), Some(State::Parked)])), Standing::Settled);
        assert_eq!(standing(&with(&[Some(State::Done), None])), Standing::UnderWay);
        assert_eq!(standing(&with(&[Some(State::Failing), None])), Standing::Failing);
    }

    #[test]
    fn an_event_without_subscribers_is_settled_once_the_topic_has_it() {
        let published = event(Vec::new());
        assert_eq!(standing(&published), Standing::Settled);
        assert_eq!(standing(&StreamEvent { published: false, ..published }), Standing::UnderWay);
    }

    #[test]
    fn the_tree_names_agents_and_effects_and_ends_with_a_corner() {
        let mut event = event(vec![delivery("duplicate", Some(State::Done)), delivery("sentiment", Some(State::Done))]);
        event.children = vec![Child { seq: 8, id: Uuid::nil(), event_type: "sentiment.analyzed".to_owned() }];
        let lines = plain(&event);
        assert!(lines[0].ends_with("feedback.created  post 3f2a91c4"), "{lines:?}");
        assert_eq!(lines[1].trim_start(), "├─ ✓ duplicate    done in 250 ms");
        assert_eq!(lines[3].trim_start(), "└─ → sentiment.analyzed");
    }

    #[test]
    fn a_parked_delivery_says_why() {
        let parked =
            StreamDelivery { reason: Some("no title".to_owned()), ..delivery("sentiment", Some(State::Parked)) };
        assert!(plain(&event(vec![parked]))[1].contains("parked in its dead-letter queue: no title"));
    }

    #[test]
    fn an_event_without_a_subscriber_is_marked() {
        assert!(plain(&event(Vec::new()))[0].ends_with("no agent subscribes"));
    }
}
