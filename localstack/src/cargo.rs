//! Programs of this workspace, compiled for this machine.
//!
//! All of them are built as `cargo test --workspace` builds, with the same profile and the features that the whole workspace needs.
//! Whatever is built for one is then compiled once for all: a selection of packages would give their dependencies other features.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde::Deserialize;

use crate::guard::{Guarded, Whom, watched};
use crate::progress::{Progress, Tick};
use crate::{Error, Places};

/// What to build.
#[derive(Debug, Clone, Copy)]
pub struct Build<'a> {
    /// The programs' names.
    pub programs: &'a [&'a str],
    /// Features to switch on, as `package/feature`. What depends on them is compiled beside what is built without.
    pub features: &'a [&'a str],
    /// The file among the logs that gets what the compiler prints.
    pub log: &'a str,
    /// How many targets cargo will report, if that is known: for the ticks.
    pub targets: u64,
}

impl Build<'_> {
    /// Builds, and returns where each program is. The ticks count compiled targets; where all is fresh it takes about a second.
    ///
    /// # Errors
    /// [`Error::Build`] with the first error when something does not compile, [`Error::File`], [`Error::Program`] when cargo is missing.
    pub fn run(&self, places: &Places, progress: Progress<'_>) -> Result<BTreeMap<String, PathBuf>, Error> {
        let logs = places.logs();
        fs::create_dir_all(&logs).map_err(Error::file("create", &logs))?;
        let log = logs.join(self.log);
        let errors = File::create(&log).map_err(Error::file("create", &log))?;
        let mut command = prepared(watched(program(), Signal::SIGTERM, Whom::Group), places);
        command.args(["build", "--workspace", "--message-format", "json-render-diagnostics"]);
        command.args(self.programs.iter().flat_map(|name| ["--bin", name]));
        command.args(self.features.iter().flat_map(|feature| ["--features", feature]));
        let mut child = Guarded::spawn(command.stdout(Stdio::piped()).stderr(errors)).map_err(missing)?;
        let output = child.take_stdout();
        let mut programs = BTreeMap::new();
        let mut done = 0;
        for line in output.into_iter().flat_map(|output| BufReader::new(output).lines().map_while(Result::ok)) {
            let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
            let (true, Some(target)) = (message.reason == "compiler-artifact", message.target) else { continue };
            done += 1;
            progress(Tick { done, of: self.targets.max(done), what: &target.name });
            if let Some(program) = message.executable {
                programs.insert(target.name, program);
            }
        }
        let status = child.wait().map_err(Error::file("run", Path::new("cargo")))?;
        if !status.success() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            return Err(Error::Build { reason: first_error(&text), log });
        }
        Ok(programs)
    }
}

/// One line of cargo's JSON messages.
#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

/// What cargo builds of a package.
#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
}

/// The cargo that runs us, if one does.
fn program() -> String {
    env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// A cargo command in the checkout.
pub(crate) fn command(places: &Places) -> Command {
    prepared(Command::new(program()), places)
}

/// Without what an outer cargo set for us: build scripts that look at it would run anew each time.
fn prepared(mut command: Command, places: &Places) -> Command {
    command.current_dir(places.root());
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|start| name.starts_with(start)) {
            command.env_remove(&*name);
        }
    }
    command
}

/// `x86_64-unknown-linux-gnu`, as rustc names this machine.
pub(crate) fn host() -> Option<String> {
    let output = Command::new("rustc").arg("-vV").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

pub(crate) fn missing(source: std::io::Error) -> Error {
    Error::Program { program: "cargo".to_owned(), source, way_out: "install Rust from https://rustup.rs" }
}

pub(crate) fn first_error(text: &str) -> String {
    let telling = text.lines().find(|line| line.starts_with("error"));
    telling.or_else(|| text.lines().next_back()).unwrap_or("it printed nothing").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_of_the_compiler_is_its_reason() {
        let text = "   Compiling shim v0.1.0\nwarning: unused\nerror[E0425]: cannot find value `x`\nerror: could not compile\n";
        assert_eq!(first_error(text), "error[E0425]: cannot find value `x`");
    }
}
