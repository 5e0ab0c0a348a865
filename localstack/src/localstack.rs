//! LocalStack in host mode, and what is deployed on it. The AWS calls are made by the Python package beside this crate, so this
//! crate holds no AWS SDK.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::guard::{Guarded, Whom, watched};
use crate::progress::{Progress, Tick};
use crate::python::Venv;
use crate::{Error, Port, ports};

/// The region of everything local.
pub const REGION: &str = "us-east-1";

/// Its very first start compiles a thousand Python modules.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// It kills the bootstraps of all functions before it ends.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

const KNOB: &str = "SWITCHYARD_PORT";

/// How to run a LocalStack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Its files. Nothing in it outlives the process in a useful way.
    pub dir: PathBuf,
    /// Where its log goes; the previous one is overwritten.
    pub log: PathBuf,
    /// The port.
    pub port: Port,
}

/// A running LocalStack; dropping it stops it and the bootstraps of its functions.
#[derive(Debug)]
pub struct LocalStack {
    process: Guarded,
    port: u16,
    log: PathBuf,
    venv: Venv,
}

impl LocalStack {
    /// Starts it and returns when it is healthy: 3 s, or up to a minute the first time. It listens on 127.0.0.1 only.
    ///
    /// # Errors
    /// [`Error::PortBusy`], [`Error::NoPort`], [`Error::NotReady`] with its own words, [`Error::File`], [`Error::Program`].
    pub fn start(venv: &Venv, options: &Options) -> Result<LocalStack, Error> {
        let mut tries = 5;
        loop {
            let port = options.port.pick("LocalStack", KNOB)?;
            match start_on(venv, options, port) {
                // Another process has taken this port.
                Err(_) if tries > 1 && options.port.is_flexible() && !ports::is_free(port) => tries -= 1,
                Err(_) if !ports::is_free(port) => {
                    return Err(Error::PortBusy { port, what: "LocalStack", knob: KNOB });
                }
                result => return result,
            }
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the Python process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.ended(), Ok(None))
    }

    /// `http://127.0.0.1:PORT`, for every AWS SDK.
    pub fn endpoint(&self) -> String {
        endpoint(self.port)
    }

    /// [`deploy`] on this one.
    ///
    /// # Errors
    /// As [`deploy`].
    pub fn deploy(&self, stack: &Stack, progress: Progress<'_>) -> Result<Outputs, Error> {
        deploy(&self.venv, &self.endpoint(), stack, progress)
    }

    /// [`undeploy`] on this one.
    ///
    /// # Errors
    /// As [`undeploy`].
    pub fn undeploy(&self, account: &str, stack: &str) -> Result<(), Error> {
        undeploy(&self.venv, &self.endpoint(), account, stack)
    }
}

impl Drop for LocalStack {
    fn drop(&mut self) {
        let _ = self.process.stop(STOP_DEADLINE);
    }
}

/// The endpoint on a port.
pub fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A stack's outputs by name.
pub type Outputs = BTreeMap<String, String>;

/// What to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Twelve digits; each account is a world of its own. It is also the access key id that selects it.
    pub account: String,
    /// The stack's name.
    pub name: String,
    /// The template file.
    pub template: PathBuf,
    /// The folder with `<function>/bootstrap` in it.
    pub artifacts: PathBuf,
    /// Template parameters by name.
    pub parameters: BTreeMap<String, String>,
    /// Secrets Manager secrets to make first: name to a JSON object.
    pub secrets: BTreeMap<String, String>,
}

/// Creates or updates a stack and waits until it is complete: one to three seconds. Its ticks name the steps.
///
/// # Errors
/// [`Error::Command`] with the reason of the first resource that failed.
pub fn deploy(venv: &Venv, endpoint: &str, stack: &Stack, progress: Progress<'_>) -> Result<Outputs, Error> {
    let mut arguments = stack_arguments(endpoint, &stack.account, &stack.name);
    arguments.extend([
        "--template".to_owned(),
        path(&stack.template),
        "--artifacts".to_owned(),
        path(&stack.artifacts),
    ]);
    for (name, value) in &stack.parameters {
        arguments.extend(["--parameter".to_owned(), format!("{name}={value}")]);
    }
    for (name, value) in &stack.secrets {
        arguments.extend(["--secret".to_owned(), format!("{name}={value}")]);
    }
    let printed = command(venv, "deploy", &arguments, progress)?;
    serde_json::from_str(&printed).map_err(|error| Error::Command {
        command: "deploy".to_owned(),
        reason: format!("no outputs in what it printed: {error}"),
    })
}

/// Deletes a stack and waits until it is gone. One that does not exist is no error.
///
/// # Errors
/// [`Error::Command`].
pub fn undeploy(venv: &Venv, endpoint: &str, account: &str, stack: &str) -> Result<(), Error> {
    command(venv, "undeploy", &stack_arguments(endpoint, account, stack), &mut |_| {}).map(drop)
}

fn stack_arguments(endpoint: &str, account: &str, stack: &str) -> Vec<String> {
    let named = [("--endpoint", endpoint), ("--account", account), ("--region", REGION), ("--stack", stack)];
    named.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]).collect()
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Runs `python -m switchyard_localstack NAME ARGUMENTS` to its end and returns its standard output. Lines of JSON on its standard
/// error are ticks; the last other line is its message.
fn command(venv: &Venv, name: &str, arguments: &[String], progress: Progress<'_>) -> Result<String, Error> {
    let failed = |reason: String| Error::Command { command: name.to_owned(), reason };
    let mut command = watched(venv.python(), Signal::SIGTERM, Whom::Child);
    command.args(["-m", "switchyard_localstack", name]).args(arguments);
    venv.prepare(&mut command);
    let mut child = Guarded::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped())).map_err(|source| {
        Error::Program { program: path(&venv.python()), source, way_out: "run `cargo dev doctor`" }
    })?;
    let output = child.take_stdout();
    let reader = std::thread::spawn(move || {
        let mut printed = String::new();
        output.map(|mut output| output.read_to_string(&mut printed)).transpose().map(|_| printed)
    });
    let mut message = String::new();
    let lines = child.take_stderr().into_iter().flat_map(|errors| BufReader::new(errors).lines().map_while(Result::ok));
    for line in lines {
        match serde_json::from_str::<Step>(&line) {
            Ok(step) => progress(Tick { done: step.done, of: step.of, what: &step.step }),
            Err(_) if line.trim().is_empty() => {}
            Err(_) => message = line,
        }
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    let printed = reader.join().ok().and_then(Result::ok).unwrap_or_default();
    if status.success() {
        return Ok(printed);
    }
    Err(failed(if message.is_empty() { format!("it printed nothing, and ended with {status}") } else { message }))
}

/// One line of progress.
#[derive(serde::Deserialize)]
struct Step {
    step: String,
    #[serde(default)]
    done: u64,
    #[serde(default)]
    of: u64,
}

fn start_on(venv: &Venv, options: &Options, port: u16) -> Result<LocalStack, Error> {
    for folder in [Some(options.dir.as_path()), options.log.parent()].into_iter().flatten() {
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    }
    let log = File::create(&options.log).map_err(Error::file("create", &options.log))?;
    let mut command = venv.module("switchyard_localstack");
    // It watches its standard input by itself, so it needs no shell around it.
    command.args(["serve", "--exit-with-stdin", "--port", &port.to_string(), "--data"]).arg(&options.dir);
    let mut process = Guarded::spawn(command.stdout(Stdio::piped()).stderr(log)).map_err(|source| Error::Program {
        program: path(&venv.python()),
        source,
        way_out: "run `cargo dev doctor`",
    })?;
    let lines = follow(&mut process, &options.log)?;
    let mut localstack = LocalStack { process, port, log: options.log.clone(), venv: venv.clone() };
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.trim() == "ready" => return Ok(localstack),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => {
                return Err(not_ready(format!("was not ready after {} s", START_DEADLINE.as_secs()), &options.log));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let _ = localstack.process.stop(STOP_DEADLINE);
                return Err(not_ready("ended at once".to_owned(), &options.log));
            }
        }
    }
}

/// Its standard output: the first lines for us, and all of them in the log.
fn follow(process: &mut Guarded, log: &Path) -> Result<Receiver<String>, Error> {
    use std::io::Write as _;

    let mut file = OpenOptions::new().append(true).open(log).map_err(Error::file("write", log))?;
    let output = process.take_stdout();
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in output.into_iter().flat_map(|output| BufReader::new(output).lines().map_while(Result::ok)) {
            let _ = writeln!(file, "{line}");
            let _ = sender.send(line); // nobody listens after `ready`
        }
    });
    Ok(lines)
}

fn not_ready(happened: String, log: &Path) -> Error {
    let text = fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it printed nothing");
    Error::NotReady { what: "LocalStack", happened, reason: line.trim().to_owned(), log: log.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_progress_line_becomes_a_step() {
        assert!(serde_json::from_str::<Step>(r#"{"step": "stack", "done": 3, "of": 20}"#).is_ok());
        assert!(serde_json::from_str::<Step>("SentimentFunction: no such bucket").is_err());
    }

    #[test]
    fn the_arguments_name_endpoint_account_region_and_stack() {
        let arguments = stack_arguments("http://127.0.0.1:1", "000000000001", "lab").join(" ");
        assert_eq!(arguments, "--endpoint http://127.0.0.1:1 --account 000000000001 --region us-east-1 --stack lab");
    }
}
