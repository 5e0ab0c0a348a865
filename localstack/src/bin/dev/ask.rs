//! Questions to the running LocalStack, through the Python package: this crate holds no AWS SDK.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::Signal;
use switchyard_localstack::Error;
use switchyard_localstack::guard::{Guarded, Whom, watched};
use switchyard_localstack::python::Venv;

use crate::state::ACCOUNT;

/// Asks one question and hands each line of the answer to `hear`; `stop` is asked after each line whether to go on.
pub(crate) fn ask(
    venv: &Venv,
    endpoint: &str,
    question: &str,
    arguments: &[&str],
    hear: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let failed = |reason: String| Error::Command { command: format!("asking LocalStack for {question}"), reason };
    let mut command = watched(venv.python(), Signal::SIGTERM, Whom::Child);
    command.args(["-m", "switchyard_localstack.ask", question, "--endpoint", endpoint, "--account", ACCOUNT]);
    venv.prepare(command.args(arguments));
    let mut child = Guarded::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped())).map_err(|source| {
        Error::Program { program: venv.python().display().to_string(), source, way_out: "run `cargo dev doctor`" }
    })?;
    let errors = child.take_stderr();
    let message = std::thread::spawn(move || {
        let lines = errors.into_iter().flat_map(|errors| BufReader::new(errors).lines().map_while(Result::ok));
        lines.last()
    });
    for line in child.take_stdout().into_iter().flat_map(|output| BufReader::new(output).lines().map_while(Result::ok))
    {
        hear(&line);
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if status.success() {
        return Ok(());
    }
    let message = message.join().ok().flatten();
    Err(failed(message.unwrap_or_else(|| format!("it ended with {status}"))))
}

/// A queue and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) waiting: u64,
    pub(crate) in_flight: u64,
    pub(crate) delayed: u64,
}

/// All queues of the account.
pub(crate) fn queues(venv: &Venv, endpoint: &str) -> Result<Vec<Queue>, Error> {
    let mut queues = Vec::new();
    ask(venv, endpoint, "queues", &[], &mut |line| queues.extend(serde_json::from_str::<Queue>(line)))?;
    queues.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(queues)
}

/// Invokes a function without waiting for it.
pub(crate) fn invoke(venv: &Venv, endpoint: &str, function: &str) -> Result<(), Error> {
    ask(venv, endpoint, "invoke", &["--function", function], &mut |_| {})
}
