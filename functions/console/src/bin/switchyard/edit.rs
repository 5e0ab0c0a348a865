//! `switchyard edit`: one parked event, back with another payload.

use crate::{
    failure::Failure,
    functions::Stack,
    global::Global,
    redrive::{report, trouble},
    style::print_line,
};
use clap::Args;
use std::path::PathBuf;
use std::{io::Read, path::Path};
use switchyard_operations::redrive::{Redriven, Request};
use uuid::Uuid;

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The agent that the event is parked for
    pub(crate) agent: String,
    /// The event
    pub(crate) event_id: Uuid,
    /// A file with the new payload, JSON; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) payload: PathBuf,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) because: String,
}

/// Reads the payload and sends it.
pub(crate) async fn run(stack: &Stack, edit: Options, global: &Global) -> Result<(), Failure> {
    let payload = read(&edit.payload)?;
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&payload) {
        return Err(Failure::new(format!("{} is no JSON: {error}", edit.payload.display())));
    }
    let request = Request::Edit {
        agent: edit.agent,
        event_id: edit.event_id,
        payload,
        operator: global.operator.clone(),
        reason: edit.because,
    };
    let done: Redriven = stack.ask(&request, global.json).await?;
    if !global.json {
        print_line(report(&done));
    }
    trouble(done)
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
}
