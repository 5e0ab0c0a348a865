//! Migrations, triggers, and the agents whose declarations arrive on standard input.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use crate::arguments::SetUp;
use crate::{message, report, wait_policy};
use switchyard_store::{
    AgentSpec, DatabaseUrl, Domain, EventsTable, Mode, Progress, Replace, Since, Store, StoreError, grant_to_runtime,
    migrate_with, set_domain,
};

pub(crate) async fn run(url: &DatabaseUrl, options: SetUp) -> Result<(), String> {
    let events = options.events.as_deref().map(|file| read("--events", file, EventsTable::parse)).transpose()?;
    let given = options.domain.as_deref().map(|file| read("--domain", file, Domain::parse)).transpose()?;
    let tell = |progress: Progress<'_>| report("applied", progress);
    let wait_policy = wait_policy(options.lock_timeout, &tell);
    let migrated = migrate_with(url, events.as_ref(), &wait_policy).await.map_err(message)?;
    let (domain, replace) = match (&given, &events) {
        (Some(domain), _) => (domain.clone(), Replace::Any),
        // A table of another application has events of another domain.
        (None, Some(_)) => (Domain::none(), Replace::OwnVersion),
        (None, None) => (Domain::parse(switchyard_feedback::DOMAIN).map_err(message)?, Replace::OwnVersion),
    };
    let domain = set_domain(url, &domain, replace, &wait_policy).await.map_err(message)?;
    if migrated.applied.is_empty() {
        println!("the schema is up to date");
    }
    if migrated.renamed {
        println!(
            "the events table or its columns were renamed; the new names are in use, and agents can append events again"
        );
    }
    println!("events are in {}; the domain is {}", migrated.events, domain.name);
    let sample = Domain::parse(switchyard_feedback::DOMAIN).map_err(message)?;
    let mut left = migrated.missing_roles;
    if domain.name == sample.name() {
        left.extend(grant_to_runtime(url, switchyard_feedback::AGENTS_RIGHTS).await.map_err(message)?);
    }
    if !left.is_empty() {
        println!(
            "note: this role may not execute these statements; let a role that may execute them, then run this again"
        );
        left.iter().for_each(|statement| println!("{statement};"));
    }
    for what in &migrated.open {
        println!("note: open: {what}");
    }
    if given.is_some() {
        for trigger in &domain.without_table {
            println!(
                "note: no trigger for {trigger}: there is no such table, or it lacks a column or has another type of id"
            );
        }
    }
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

/// Reads the file that an option names.
fn read<T>(option: &str, file: &Path, parse: fn(&str) -> Result<T, StoreError>) -> Result<T, String> {
    let file_name = file.display();
    let json = std::fs::read_to_string(file).map_err(|error| format!("{option} {file_name}: {error}"))?;
    parse(&json).map_err(|error| format!("{option} {file_name}: {error}"))
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
