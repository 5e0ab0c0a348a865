//! `switchyard edit`: one parked event, back with another payload.

use crate::{
    arguments::{Edit, Global},
    failure::Failure,
    functions::Stack,
    redrive::{report, trouble},
    style::print_line,
};
use std::{io::Read, path::Path};
use switchyard_operations::redrive::{Redriven, Request};

/// Reads the payload and sends it.
pub(crate) async fn run(stack: &Stack, edit: Edit, global: &Global) -> Result<(), Failure> {
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
