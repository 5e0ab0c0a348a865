//! Migrations, triggers, and the agents whose declarations arrive on standard input.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use crate::arguments::SetUp;
use crate::{message, report, wait_policy};
use switchyard_store::{AgentSpec, DatabaseUrl, EventsTable, Mode, Progress, Since, Store, migrate_with};

pub(crate) async fn run(url: &DatabaseUrl, options: SetUp) -> Result<(), String> {
    let events = options.events.as_deref().map(read_events_table).transpose()?;
    let tell = |progress: Progress<'_>| report("applied", progress);
    let migrated =
        migrate_with(url, events.as_ref(), &wait_policy(options.lock_timeout, &tell)).await.map_err(message)?;
    if migrated.applied.is_empty() {
        println!("the schema is up to date");
    }
    if migrated.renamed {
        println!(
            "the events table or its columns were renamed; the new names are in use, and agents can append events again"
        );
    }
    println!("events are in {}", migrated.events);
    if !migrated.found_by_time {
        println!(
            "note: the events table has no index on the time of creation; events inserted while the trigger `switchyard_log` is disabled are never published"
        );
    }
    let left = if io::stdin().is_terminal() {
        options.from_beginning
    } else {
        register(&Store::open(url, 1).map_err(message)?, options.first_mode, options.from_beginning).await?
    };
    match left.first() {
        None => Ok(()),
        Some(agent) => Err(format!(
            "--from-beginning {agent}: standard input has no declaration of this agent; pipe in `cargo run -qp {agent} -- declare`"
        )),
    }
}

fn read_events_table(file: &Path) -> Result<EventsTable, String> {
    let file_name = file.display();
    let json = std::fs::read_to_string(file).map_err(|error| format!("--events {file_name}: {error}"))?;
    EventsTable::parse(&json).map_err(|error| format!("--events {file_name}: {error}"))
}

/// Registers the agents that standard input declares. Returns those of `from_beginning` that it does not declare.
async fn register(store: &Store, first_mode: Mode, mut from_beginning: Vec<String>) -> Result<Vec<String>, String> {
    for (number, line) in io::stdin().lock().lines().enumerate() {
        let line = line.map_err(|error| format!("standard input: {error}"))?;
        if line.trim().is_empty() {
            continue;
        }
        let spec: AgentSpec = serde_json::from_str(&line)
            .map_err(|error| format!("line {} of standard input is not an agent's declaration: {error}", number + 1))?;
        let since = if from_beginning.contains(&spec.name) { Since::Beginning } else { Since::Now };
        let registered = store.register(&spec, first_mode, since).await.map_err(message)?;
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
    Ok(from_beginning)
}

fn list(types: &[String]) -> String {
    if types.is_empty() { "nothing".into() } else { types.join(", ") }
}
