//! Makes a database ready: applies the migrations and registers the agents whose declarations arrive on standard input.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to a person")]

use std::{
    io::{self, BufRead, IsTerminal},
    process::ExitCode,
};
use switchyard_store::{AgentSpec, DatabaseUrl, Mode, Since, Store, StoreError, migrate};

const HELP: &str = "\
Makes a database ready for Switchyard. Safe to repeat, on a live database too.

  switchyard-setup [--first-mode off|shadow|full] [--from-beginning AGENT]...

Reads DATABASE_URL: a direct connection, not a transaction-mode pooler, with the right to create a schema.
DATABASE_CA may hold a certificate in PEM to trust as well.
Applies what is missing of the migrations and installs the triggers on the application's tables.

Then registers each agent whose declaration arrives on standard input, one JSON object a line, as `cargo run -p AGENT -- declare`
prints it: from now on events of its types are accounted for. Do this before the agent is deployed, since an event from before its
registration is not the agent's.

  --first-mode  who owns events of an agent that is registered for the first time: nobody's new agent yet (off), the old system
                while decisions are stored (shadow), or the new agent (full, the default). A later registration changes nothing of it.

  --from-beginning AGENT
                this agent also gets the events of its types from before its registration, as far back as the ledger remembers (45 days
                or more; what was in the table before the first setup is history and never delivered). Also for an agent that is
                registered already. Its declaration must be on standard input. May be given more than once.

For example, a new agent that is to catch up:
  cargo run -p theme -- declare | switchyard-setup --from-beginning theme
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Help,
    SetUp { first_mode: Mode, from_beginning: Vec<String> },
}

fn main() -> ExitCode {
    let (first_mode, from_beginning) = match arguments(std::env::args().skip(1)) {
        Ok(Wanted::SetUp { first_mode, from_beginning }) => (first_mode, from_beginning),
        Ok(Wanted::Help) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => return fail(&format!("{problem}; `switchyard-setup --help` tells more"), 2),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}"), 1),
    };
    match runtime.block_on(set_up(first_mode, from_beginning)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => fail(&problem, 1),
    }
}

fn arguments(given: impl IntoIterator<Item = String>) -> Result<Wanted, String> {
    let mut given = given.into_iter();
    let (mut first_mode, mut from_beginning) = (Mode::Full, Vec::new());
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--help" | "-h" => return Ok(Wanted::Help),
            "--first-mode" => {
                first_mode = match given.next().as_deref() {
                    Some("off") => Mode::Off,
                    Some("shadow") => Mode::Shadow,
                    Some("full") => Mode::Full,
                    other => {
                        return Err(format!(
                            "--first-mode is off, shadow or full, not {:?}",
                            other.unwrap_or_default()
                        ));
                    }
                }
            }
            "--from-beginning" => match given.next() {
                Some(agent) if !agent.is_empty() && !agent.starts_with('-') => from_beginning.push(agent),
                _ => return Err("--from-beginning wants the name of an agent".to_owned()),
            },
            other => return Err(format!("unknown argument {other:?}")),
        }
    }
    Ok(Wanted::SetUp { first_mode, from_beginning })
}

async fn set_up(first_mode: Mode, mut from_beginning: Vec<String>) -> Result<(), String> {
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
    if !io::stdin().is_terminal() {
        let store = Store::open(&url, 1).map_err(say)?;
        for (number, line) in io::stdin().lock().lines().enumerate() {
            let line = line.map_err(|error| format!("standard input: {error}"))?;
            if line.trim().is_empty() {
                continue;
            }
            let spec: AgentSpec = serde_json::from_str(&line)
                .map_err(|error| format!("line {} of standard input is no agent's declaration: {error}", number + 1))?;
            let since = if from_beginning.contains(&spec.name) { Since::Beginning } else { Since::Now };
            let registered = store.register(&spec, first_mode, since).await.map_err(say)?;
            from_beginning.retain(|agent| *agent != spec.name);
            let what = if registered.created { "registered" } else { "known" };
            println!(
                "{what} {}: {} added, {} removed, {} from further back",
                spec.name,
                list(&registered.added),
                list(&registered.removed),
                list(&registered.extended)
            );
        }
    }
    match from_beginning.first() {
        None => Ok(()),
        Some(agent) => Err(format!(
            "--from-beginning {agent}: its declaration did not arrive on standard input; pipe in `cargo run -p {agent} -- declare`"
        )),
    }
}

fn list(types: &[String]) -> String {
    if types.is_empty() { "nothing".into() } else { types.join(", ") }
}

fn fail(problem: &str, code: u8) -> ExitCode {
    eprintln!("switchyard-setup: {problem}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Wanted, String> {
        arguments(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_arguments_an_agent_is_registered_from_now_on_and_owns_its_events() {
        assert_eq!(parsed(""), Ok(Wanted::SetUp { first_mode: Mode::Full, from_beginning: vec![] }));
    }

    #[test]
    fn arguments_come_in_any_order_and_agents_more_than_once() {
        let wanted = parsed("--from-beginning theme --first-mode shadow --from-beginning sentiment");
        let from_beginning = vec!["theme".to_owned(), "sentiment".to_owned()];
        assert_eq!(wanted, Ok(Wanted::SetUp { first_mode: Mode::Shadow, from_beginning }));
        assert_eq!(parsed("--first-mode off --help"), Ok(Wanted::Help));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in [
            ("--first-mode", "off, shadow or full"),
            ("--first-mode percent", "percent"),
            ("--from-beginning", "name of an agent"),
            ("--from-beginning --first-mode off", "name of an agent"),
            ("theme", "\"theme\""),
        ] {
            assert!(parsed(line).is_err_and(|problem| problem.contains(named)), "{line}");
        }
    }
}
