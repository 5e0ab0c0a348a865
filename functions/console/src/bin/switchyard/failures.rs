//! `switchyard failures`: what went wrong lately.

use crate::{
    failure::Failure,
    functions::Stack,
    style::{GREEN, cell, paint, print_line, short, table},
    when::since,
};
use clap::Args;
use jiff::Timestamp;
use switchyard_operations::redrive::{Failures, Request};

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The agent
    pub(crate) agent: String,
    /// How many
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) at_most: u16,
}

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
