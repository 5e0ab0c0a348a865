//! `cargo dev logs`: what the functions wrote, from CloudWatch Logs.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value};
use switchyard_localstack::Places;
use switchyard_localstack::python::{Python, Venv};

use crate::arguments::Logs;
use crate::style::{BOLD, CYAN, DIM, RED, YELLOW, paint};
use crate::{Outcome, ask, signals, state, when};

/// One line of the answer.
#[derive(Debug, Deserialize)]
struct Line {
    at: i64,
    function: String,
    message: String,
}

pub(crate) fn run(places: &Places, options: &Logs) -> Outcome {
    let state = state::ready(places)?;
    let endpoint = state.endpoint().unwrap_or_default();
    let venv = Venv::locate(places, &Python::find()?)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let since = now.saturating_sub(u128::from(options.since) * 60_000).to_string();
    let mut arguments = vec!["--stack", state::STACK, "--since", &since];
    if let Some(agent) = &options.agent {
        arguments.extend(["--function", agent]);
    }
    if options.follow {
        arguments.push("--follow");
        // Ctrl-C ends a command that would never end by itself: that is how it is meant to be used.
        signals::catch(|| std::process::exit(0))?;
    }
    ask::ask(&venv, &endpoint, "logs", &arguments, &mut |line| {
        if let Ok(line) = serde_json::from_str::<Line>(line) {
            print(&line);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn print(line: &Line) {
    use std::io::Write;

    let (at, function) = (when::of_millis(line.at), paint(CYAN, format!("{:<10}", line.function)));
    let mut out = anstream::stdout().lock();
    for text in line.message.lines() {
        // The reader of the pipe may stop reading: `cargo dev logs | head`.
        if writeln!(out, "{} {function} {}", paint(DIM, &at), readable(text)).is_err() {
            std::process::exit(0);
        }
    }
}

/// Lambda's own lines are dimmed; a structured line is turned into a sentence with its fields behind.
fn readable(text: &str) -> String {
    if ["START ", "END ", "REPORT ", "INIT_"].iter().any(|start| text.starts_with(start)) {
        return paint(DIM, text);
    }
    let Ok(object) = serde_json::from_str::<Map<String, Value>>(text) else { return text.to_owned() };
    structured(&object).unwrap_or_else(|| text.to_owned())
}

fn structured(object: &Map<String, Value>) -> Option<String> {
    let nested = object.get("fields").and_then(Value::as_object);
    let fields = nested.unwrap_or(object);
    let message = fields.get("message")?.as_str()?;
    let level = object.get("level").and_then(Value::as_str).unwrap_or("INFO");
    let level = match level {
        "ERROR" => paint(RED, level),
        "WARN" => paint(YELLOW, level),
        _ => level.to_owned(),
    };
    let shown = ["message", "level", "timestamp", "target", "spans"];
    let rest = fields.iter().filter(|(name, _)| !shown.contains(&name.as_str()));
    let rest: String = rest.map(|(name, value)| format!(" {name}={}", plain(value))).collect();
    Some(format!("{level} {}{}", paint(BOLD, message), paint(DIM, rest)))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structured_line_becomes_a_sentence_with_its_fields_behind() {
        let line = readable(r#"{"level":"WARN","fields":{"message":"retrying","attempt":2},"target":"runtime"}"#);
        let line = anstream::adapter::strip_str(&line).to_string();
        assert_eq!(line, "WARN retrying attempt=2");
    }

    #[test]
    fn a_line_that_is_not_structured_stays_as_it_is() {
        assert_eq!(readable("thread panicked at 'boom'"), "thread panicked at 'boom'");
        assert_eq!(readable("[1, 2]"), "[1, 2]");
    }
}
