//! `cargo dev status`.

use std::process::ExitCode;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use switchyard_localstack::python::{Python, Venv};
use switchyard_localstack::{Error, Places, localstack};
use switchyard_store::Store;

use crate::arguments::Status;
use crate::ask::{self, Queue};
use crate::state::{self, State};
use crate::style::{BOLD, DIM, GREEN, RED, YELLOW, paint, print_line};
use crate::{Outcome, runtime, schema};

/// Everything that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    running: bool,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<System>,
    agents: Vec<Agent>,
    queues: Vec<Queue>,
    /// What could not be found out, and why.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct System {
    pid: i32,
    detached: bool,
    postgres_port: Option<u16>,
    postgres_pid: Option<u32>,
    database_url: Option<String>,
    localstack_port: Option<u16>,
    localstack_pid: Option<u32>,
    endpoint: Option<String>,
    account: &'static str,
    region: &'static str,
    outputs: std::collections::BTreeMap<String, String>,
}

/// An agent's ledger.
#[derive(Debug, Serialize)]
struct Agent {
    name: String,
    subscribed: i64,
    done: i64,
    under_way: i64,
    failing: i64,
    parked: i64,
    superseded: i64,
    expired: i64,
    old_system: i64,
}

pub(crate) fn run(places: &Places, options: &Status) -> Outcome {
    let state = state::running(places)?;
    let report = inquire(places, state.as_ref())?;
    if options.json {
        print_line(serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        print(&report);
    }
    Ok(if report.ready && report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn inquire(places: &Places, state: Option<&State>) -> Result<Report, Error> {
    let mut report = Report {
        running: state.is_some(),
        ready: state.is_some_and(|state| state.ready),
        system: state.map(System::of),
        agents: Vec::new(),
        queues: Vec::new(),
        problems: Vec::new(),
    };
    let Some(state) = state else { return Ok(report) };
    if let Some(url) = state.database_url().filter(|_| state.ready) {
        match runtime()?.block_on(agents(&schema::store(&url)?)) {
            Ok(agents) => report.agents = agents,
            Err(error) => report.problems.push(format!("Postgres: {error}")),
        }
    }
    if let Some(endpoint) = state.endpoint().filter(|_| state.ready) {
        let venv = Venv::locate(places, &Python::find()?)?;
        match ask::queues(&venv, &endpoint) {
            Ok(queues) => report.queues = queues,
            Err(error) => report.problems.push(format!("LocalStack: {error}")),
        }
    }
    Ok(report)
}

async fn agents(store: &Store) -> Result<Vec<Agent>, switchyard_store::StoreError> {
    let mut agents = Vec::new();
    for name in store.agents().await? {
        let ledger = store.ledger(&name).await?;
        agents.push(Agent {
            name,
            subscribed: ledger.subscribed,
            done: ledger.done,
            under_way: ledger.pending + ledger.assigned,
            failing: ledger.failing,
            parked: ledger.parked,
            superseded: ledger.superseded,
            expired: ledger.expired,
            old_system: ledger.assigned_old,
        });
    }
    Ok(agents)
}

impl System {
    fn of(state: &State) -> System {
        System {
            pid: state.pid,
            detached: state.detached,
            postgres_port: state.postgres_port,
            postgres_pid: state.postgres_pid,
            database_url: state.database_url(),
            localstack_port: state.localstack_port,
            localstack_pid: state.localstack_pid,
            endpoint: state.endpoint(),
            account: state::ACCOUNT,
            region: localstack::REGION,
            outputs: state.outputs.clone(),
        }
    }
}

fn print(report: &Report) {
    let Some(system) = &report.system else {
        return print_line("nothing runs in this checkout; `cargo dev` or `cargo dev up --detach` starts it");
    };
    let stands = if report.ready { paint(GREEN, "up") } else { paint(YELLOW, "starting") };
    let how = if system.detached { "in the background" } else { "in a terminal" };
    print_line(format!("{} {stands}, {how} (process {})", paint(BOLD, "Switchyard"), system.pid));
    let line = |name: &str, value: &Option<String>| {
        print_line(format!("  {} {}", paint(DIM, format!("{name:<11}")), value.as_deref().unwrap_or("starting")));
    };
    line("Postgres", &system.database_url);
    line("LocalStack", &system.endpoint);
    if !report.agents.is_empty() {
        let mut table = table(&["agent", "subscribed", "done", "under way", "failing", "parked", "superseded"]);
        for agent in &report.agents {
            let numbers = [
                agent.subscribed,
                agent.done,
                agent.under_way,
                agent.failing,
                agent.parked,
                agent.superseded + agent.expired,
            ];
            table.add_row(std::iter::once(agent.name.clone()).chain(numbers.map(|n| n.to_string())));
        }
        show(table);
    }
    if !report.queues.is_empty() {
        let mut table = table(&["queue", "waiting", "in flight", "delayed"]);
        for queue in &report.queues {
            let numbers = [queue.waiting, queue.in_flight, queue.delayed];
            table.add_row(std::iter::once(queue.name.clone()).chain(numbers.map(|n| n.to_string())));
        }
        show(table);
    }
    for problem in &report.problems {
        print_line(format!("{} {problem}", paint(RED, "✗")));
    }
}

/// Names on the left, numbers on the right, no lines: it reads well in a terminal and in a pipe.
fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn show(table: Table) {
    let text = table.to_string();
    let mut lines = text.lines();
    print_line(format!("\n{}", paint(DIM, lines.next().unwrap_or_default().trim_end())));
    lines.for_each(|line| print_line(line.trim_end()));
}
