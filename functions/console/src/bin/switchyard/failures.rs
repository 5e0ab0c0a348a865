//! `switchyard failures`: what went wrong lately.

use crate::{
    arguments::Failures as Options,
    failure::Failure,
    functions::Stack,
    style::{GREEN, cell, paint, print_line, short, table},
    when::since,
};
use jiff::Timestamp;
use switchyard_operations::redrive::{Failures, Request};

/// The latest first.
pub(crate) async fn run(stack: &Stack, options: Options, json: bool) -> Result<(), Failure> {
    let request = Request::Failures { agent: options.agent, at_most: options.at_most };
    let answer: Failures = stack.ask(&request, json).await?;
    if !json {
        print_line(page(&answer, Timestamp::now()));
    }
    Ok(())
}

fn page(answer: &Failures, now: Timestamp) -> String {
    if answer.failures.is_empty() {
        return format!("{} nothing of {} has failed", paint(GREEN, "ok:"), answer.agent);
    }
    let rows = answer.failures.iter().map(|failure| {
        let event = failure.event_id.map(|id| id.to_string());
        vec![
            cell(since(&failure.at, now)),
            cell(event.or_else(|| failure.message_id.clone()).unwrap_or_default()),
            if failure.parked { cell("parked") } else { cell(failure.attempt) },
            cell(&failure.reason),
            cell(short(failure.error.as_deref().unwrap_or_default(), 120)),
        ]
    });
    table(&["WHEN", "EVENT", "#ATTEMPT", "REASON", "ERROR"], rows.collect())
}
