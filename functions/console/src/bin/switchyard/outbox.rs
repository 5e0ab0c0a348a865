//! `switchyard outbox`: events that the topic has refused, and a second chance for them.

use crate::{
    failure::Failure,
    functions::Stack,
    global::Global,
    style::{GREEN, cell, count, paint, print_line, short, table},
    when::since,
};
use clap::Args;
use jiff::Timestamp;
use switchyard_operations::{
    outbox::{Outbox, Retried},
    steward::Request,
};

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Publish them again
    #[arg(long)]
    pub(crate) again: bool,
    /// Only the event with this number in the outbox (repeat for more)
    #[arg(long, requires = "again", value_name = "SEQ", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) seq: Vec<i64>,
}

/// The events that could not be published, or publishing them again.
pub(crate) async fn run(stack: &Stack, options: Options, global: &Global) -> Result<(), Failure> {
    if options.again {
        let request = Request::RetryPublishing { seqs: options.seq, operator: global.operator.clone() };
        let retried: Retried = stack.ask_steward(&request, global.json).await?;
        if !global.json {
            print_line(format!("{} published again within a minute", count(retried.retried, "event")));
        }
        return Ok(());
    }
    let outbox: Outbox = stack.ask_steward(&Request::Outbox, global.json).await?;
    if !global.json {
        print_line(page(&outbox, Timestamp::now()));
    }
    Ok(())
}

fn page(outbox: &Outbox, now: Timestamp) -> String {
    if outbox.unpublishable.is_empty() {
        return format!("{} every event could be published", paint(GREEN, "ok:"));
    }
    let rows = outbox.unpublishable.iter().map(|event| {
        vec![
            cell(event.seq),
            cell(event.event_id),
            cell(&event.event_type),
            cell(since(&event.parked_at, now)),
            cell(event.attempts),
            cell(short(&event.reason, 120)),
        ]
    });
    let page = table(&["#SEQ", "EVENT", "TYPE", "SINCE", "#REFUSED", "REASON"], rows.collect());
    format!(
        "{page}\n\nThey could not be published; no agent receives them. To publish them again: switchyard outbox --again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_operations::outbox::UnpublishableEvent;

    #[test]
    fn an_event_that_could_not_be_published_is_shown_with_its_reason_and_a_remedy() {
        let event = UnpublishableEvent {
            seq: 7,
            event_id: uuid::Uuid::nil(),
            event_type: "feedback.created".into(),
            reason: "too_large".into(),
            attempts: 5,
            parked_at: "2026-01-05T11:59:00Z".into(),
        };
        let page = page(&Outbox { unpublishable: vec![event] }, "2026-01-05T12:00:00Z".parse().unwrap());
        for words in ["feedback.created", "1m 0s ago", "too_large", "switchyard outbox --again"] {
            assert!(page.contains(words), "{words}: {page}");
        }
    }

    #[test]
    fn an_outbox_without_parked_events_is_reported_as_well() {
        assert!(page(&Outbox::default(), Timestamp::UNIX_EPOCH).contains("every event could be published"));
    }
}
