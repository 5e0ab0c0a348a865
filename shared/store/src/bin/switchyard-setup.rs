//! Makes a database ready: applies the migrations and registers the agents whose declarations arrive on standard input.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to a person")]

use std::{
    io::{self, BufRead, IsTerminal},
    process::ExitCode,
};
use switchyard_store::{AgentSpec, DatabaseUrl, Mode, Store, StoreError, migrate};

const HELP: &str = "\
Makes a database ready for Switchyard. Safe to repeat, on a live database too.

  switchyard-setup [--first-mode off|shadow|full]

Reads DATABASE_URL: a direct connection, not a transaction-mode pooler, with the right to create a schema.
DATABASE_CA may hold a certificate in PEM to trust as well.
Applies what is missing of the migrations and installs the triggers on the application's tables.

Then registers each agent whose declaration arrives on standard input, one JSON object a line, as `cargo run -p AGENT -- declare`
prints it: from now on events of its types are accounted for. Do this before the agent is deployed, since an event from before its
registration is not the agent's.

  --first-mode  who owns events of an agent that is registered for the first time: nobody's new agent yet (off), the old system
                while decisions are stored (shadow), or the new agent (full, the default). A later registration changes nothing of it.
";

fn main() -> ExitCode {
    let mode = match arguments(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(Some(mode)) => mode,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => return fail(&format!("{problem}; `switchyard-setup --help` tells more"), 2),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}"), 1),
    };
    match runtime.block_on(set_up(mode)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => fail(&problem, 1),
    }
}

fn arguments(given: &[String]) -> Result<Option<Mode>, String> {
    match given.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(Some(Mode::Full)),
        ["--help" | "-h"] => Ok(None),
        ["--first-mode", "off"] => Ok(Some(Mode::Off)),
        ["--first-mode", "shadow"] => Ok(Some(Mode::Shadow)),
        ["--first-mode", "full"] => Ok(Some(Mode::Full)),
        ["--first-mode", other] => Err(format!("--first-mode is off, shadow or full, not {other:?}")),
        _ => Err(format!("unknown argument {:?}", given.join(" "))),
    }
}

async fn set_up(mode: Mode) -> Result<(), String> {
    let say = |error: StoreError| error.to_string();
    let url =
        std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set: the database to make ready".to_owned())?;
    let mut url: DatabaseUrl = url.parse().map_err(say)?;
    if let Ok(pem) = std::env::var("DATABASE_CA") {
        url = url.trusting(pem);
    }
    let migrated = migrate(&url).await.map_err(say)?;
    for name in migrated.applied.iter().chain(&migrated.triggers) {
        println!("applied {name}");
    }
    if migrated.applied.is_empty() {
        println!("the schema is up to date");
    }
    if io::stdin().is_terminal() {
        return Ok(());
    }
    let store = Store::open(&url, 1).map_err(say)?;
    for (number, line) in io::stdin().lock().lines().enumerate() {
        let line = line.map_err(|error| format!("standard input: {error}"))?;
        if line.trim().is_empty() {
            continue;
        }
        let spec: AgentSpec = serde_json::from_str(&line)
            .map_err(|error| format!("line {} of standard input is no agent's declaration: {error}", number + 1))?;
        let registered = store.register(&spec, mode).await.map_err(say)?;
        let what = if registered.created { "registered" } else { "known" };
        println!("{what} {}: {} added, {} removed", spec.name, list(&registered.added), list(&registered.removed));
    }
    Ok(())
}

fn list(types: &[String]) -> String {
    if types.is_empty() { "nothing".into() } else { types.join(", ") }
}

fn fail(problem: &str, code: u8) -> ExitCode {
    eprintln!("switchyard-setup: {problem}");
    ExitCode::from(code)
}
