//! `switchyard delays`: what waits for its time, shown or cancelled.

use crate::{
    failure::Failure,
    functions::Stack,
    global::Global,
    style::{BOLD, GREEN, cell, count, paint, print_line, table},
    when::age,
};
use clap::Args;
use jiff::Timestamp;
use switchyard_operations::{
    delays::{Became, Cancellation, Cancelled, Delays, DelaysRequest, Waiting},
    steward::Request,
};
use uuid::Uuid;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  switchyard delays                                    what waits, the next first
  switchyard delays --type digest.due --first 10       the next ten of a type
  switchyard delays --cancel EVENT_ID --because 'the customer has left'")]
pub(crate) struct DelaysOptions {
    /// Only events of this type (repeat for more)
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only events of this project (repeat for more)
    #[arg(long = "project", value_name = "PROJECT_ID")]
    projects: Vec<String>,
    /// Only events of this aggregate (repeat for more)
    #[arg(long = "aggregate", value_name = "AGGREGATE_ID")]
    aggregates: Vec<String>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=1000))]
    first: i64,
    /// Cancel this event: it stays in its table, and no agent gets it (repeat for more)
    #[arg(long, value_name = "EVENT_ID", requires = "because", conflicts_with_all = ["types", "projects", "aggregates", "first"])]
    cancel: Vec<Uuid>,
    /// Why, for the audit
    #[arg(long, requires = "cancel", value_name = "TEXT")]
    because: Option<String>,
}

/// What waits, or what became of what was to be cancelled.
pub(crate) async fn run(stack: &Stack, options: DelaysOptions, global: &Global) -> Result<(), Failure> {
    if !options.cancel.is_empty() {
        let request = DelaysRequest::Cancel {
            events: options.cancel,
            because: options.because.unwrap_or_default(),
            operator: global.operator.clone(),
        };
        let cancelled: Cancelled = stack.ask_steward(&Request::Delays(request), global.json).await?;
        if !global.json {
            for done in cancelled.events.iter().filter(|event| is_over(event.became)) {
                print_line(format!("{} {} reaches no agent", paint(BOLD, "cancelled:"), done.event_id));
            }
        }
        return refusal(&cancelled.events).map_or(Ok(()), |refusal| Err(Failure::new(refusal)));
    }
    let DelaysOptions { types, projects, aggregates, first: at_most, .. } = options;
    let request = DelaysRequest::Show { which: Delays { types, projects, aggregates }, at_most };
    let waiting: Waiting = stack.ask_steward(&Request::Delays(request), global.json).await?;
    if !global.json {
        print_line(page(&waiting, Timestamp::now()));
    }
    Ok(())
}

fn page(found: &Waiting, now: Timestamp) -> String {
    if found.waiting.is_empty() {
        let others = if found.in_all > 0 {
            format!(" of these; {} in all", count(found.in_all, "event"))
        } else {
            String::new()
        };
        return format!("{} nothing waits for its time{others}", paint(GREEN, "ok:"));
    }
    let rows = found.waiting.iter().map(|event| {
        vec![
            cell(format!("{} (in {})", event.due_at, until(&event.due_at, now))),
            cell(event.event_id),
            cell(&event.event_type),
            cell(&event.aggregate_id),
            cell(event.project_id.as_deref().unwrap_or("-")),
        ]
    });
    let page = table(&["DUE", "EVENT", "TYPE", "AGGREGATE", "PROJECT"], rows.collect());
    let shown = count(found.waiting.len() as u64, "event");
    format!("{page}\n\n{shown} of {}. To cancel one: switchyard delays --cancel EVENT_ID --because TEXT", found.in_all)
}

/// How long until a time in RFC 3339; nothing where it is none.
fn until(text: &str, now: Timestamp) -> String {
    let Ok(then) = text.parse::<Timestamp>() else { return String::new() };
    age(u64::try_from(then.duration_since(now).as_secs()).unwrap_or(0))
}

/// Whether no agent will receive it.
fn is_over(became: Cancellation) -> bool {
    matches!(became, Cancellation::Cancelled | Cancellation::AlreadyCancelled)
}

/// Why some were not cancelled, in one line; none where all were.
fn refusal(events: &[Became]) -> Option<String> {
    let refused: Vec<String> = events
        .iter()
        .filter_map(|Became { event_id, became }| {
            let why = match became {
                Cancellation::Cancelled | Cancellation::AlreadyCancelled => return None,
                Cancellation::Unknown => "is not in the event log",
                Cancellation::NotDelayed => "never had to wait",
                Cancellation::Due => "is published, or about to be: its time has come",
                Cancellation::Taken => "was worked on by the old system before its time, or is parked",
            };
            Some(format!("{event_id} {why}"))
        })
        .collect();
    (!refused.is_empty()).then(|| format!("not cancelled: {}", refused.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_operations::delays::Delayed;

    fn waiting() -> Delayed {
        Delayed {
            seq: 7,
            event_id: Uuid::nil(),
            event_type: "digest.due".into(),
            aggregate_id: "post-1".into(),
            project_id: None,
            due_at: "2026-01-06T14:00:00.000000Z".into(),
            logged_at: "2026-01-05T12:00:00.000000Z".into(),
        }
    }

    #[test]
    fn what_waits_is_shown_with_how_long_it_still_waits_and_the_way_to_cancel_it() {
        let page = page(&Waiting { waiting: vec![waiting()], in_all: 12 }, "2026-01-05T12:00:00Z".parse().unwrap());
        for words in ["digest.due", "post-1", "in 1d 2h", "1 event of 12", "switchyard delays --cancel"] {
            assert!(page.contains(words), "{words}: {page}");
        }
    }

    #[test]
    fn that_nothing_waits_is_said_and_that_a_filter_hid_the_rest_too() {
        assert!(page(&Waiting::default(), Timestamp::UNIX_EPOCH).ends_with("nothing waits for its time"));
        let hidden = Waiting { waiting: vec![], in_all: 3 };
        assert!(page(&hidden, Timestamp::UNIX_EPOCH).ends_with("of these; 3 events in all"));
    }

    #[test]
    fn what_could_not_be_cancelled_is_one_line_with_the_reason_of_each() {
        let became = |became| Became { event_id: Uuid::nil(), became };
        assert_eq!(refusal(&[became(Cancellation::Cancelled), became(Cancellation::AlreadyCancelled)]), None);
        let line =
            refusal(&[became(Cancellation::Due), became(Cancellation::Cancelled), became(Cancellation::Unknown)])
                .unwrap();
        assert!(line.contains("its time has come") && line.contains("event log"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}
