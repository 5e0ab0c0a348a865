//! `cargo dev doctor`: each thing that this machine needs, one line for each, with the way out.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::sys::statvfs::statvfs;
use switchyard_localstack::postgres::Binaries;
use switchyard_localstack::python::{Python, Venv};
use switchyard_localstack::{Error, Places, ports};

use crate::state::{self, State};
use crate::style::{self, DIM, GREEN, RED, YELLOW, paint};
use crate::{Outcome, runtime, schema, up};

/// What a first start needs: packages, compiled code, a database.
const NEEDED_GIB: u64 = 4;

/// How a thing stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    /// As it should be.
    Good(String),
    /// Not as it might be, and no harm.
    Note(String),
    /// It has to be put right; with the way out.
    Bad(String),
}

use Finding::{Bad, Good, Note};

pub(crate) fn run(places: &Places) -> Outcome {
    let mut is_well = true;
    let mut find = |name: &str, finding: Finding| {
        let (mark, text) = match finding {
            Good(text) => (paint(GREEN, "✓"), text),
            Note(text) => (paint(YELLOW, "·"), text),
            Bad(text) => {
                is_well = false;
                (paint(RED, "✗"), text)
            }
        };
        style::print_line(format!("{mark} {} {text}", paint(DIM, format!("{name:<11}"))));
    };
    find("Rust", rust());
    let python = Python::find();
    find("Python", of(&python, |python| format!("{} at {}", python.version, python.executable.display())));
    let venv = python.ok().and_then(|python| Venv::locate(places, &python).ok());
    find("Packages", packages(venv.as_ref()));
    find("Postgres", postgres(venv.as_ref()));
    find("Template", template(places));
    find("Cache", folder(places.cache()));
    find("Checkout", folder(places.state()));
    find("Database", folder(places.data()));
    find("Disk", disk(places));
    match state::running(places)? {
        Some(state) => {
            find("Running", Good(format!("process {}, {}", state.pid, if state.ready { "ready" } else { "starting" })));
            find("  Postgres", database(&state));
            find("  LocalStack", answers(state.localstack_port));
        }
        None => {
            find("Running", Note("nothing; `cargo dev` starts it".to_owned()));
            find("Port", port(up::LOCALSTACK_PORT, "LocalStack"));
            find("Port", port(up::POSTGRES_PORT, "Postgres"));
        }
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn of<T>(result: &Result<T, Error>, good: impl FnOnce(&T) -> String) -> Finding {
    match result {
        Ok(value) => Good(good(value)),
        Err(error) => Bad(error.to_string()),
    }
}

fn rust() -> Finding {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    match Command::new(cargo).arg("--version").stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Good(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        _ => Bad("cargo does not run; install Rust from https://rustup.rs".to_owned()),
    }
}

fn packages(venv: Option<&Venv>) -> Finding {
    match venv {
        Some(venv) if venv.is_complete() => Good(venv.dir().display().to_string()),
        Some(_) => Note("not installed yet; `cargo dev` does it, once, in a minute or two (600 MB)".to_owned()),
        None => Bad("cannot be installed without a Python".to_owned()),
    }
}

fn postgres(venv: Option<&Venv>) -> Finding {
    let is_own = std::env::var_os("SWITCHYARD_POSTGRES_BIN").is_some_and(|dir| !dir.is_empty());
    match venv {
        Some(venv) if venv.is_complete() || is_own => of(&Binaries::find(venv), |binaries| {
            format!("version {} in {}", binaries.major(), binaries.dir().display())
        }),
        Some(_) => Note("comes with the packages".to_owned()),
        None => Bad("comes with the packages; or set SWITCHYARD_POSTGRES_BIN".to_owned()),
    }
}

fn template(places: &Places) -> Finding {
    let path = places.root().join("template.yaml");
    if path.is_file() {
        Good(path.display().to_string())
    } else {
        Bad(format!("{} is missing; restore it", path.display()))
    }
}

/// Whether we can write into a folder, or make it.
fn folder(path: &Path) -> Finding {
    let probe = path.join(format!("probe-{}", std::process::id()));
    match fs::create_dir_all(path).and_then(|()| fs::write(&probe, "")).and_then(|()| fs::remove_file(&probe)) {
        Ok(()) => Good(path.display().to_string()),
        Err(error) => Bad(format!("cannot write to {}: {error}; change its owner or its permissions", path.display())),
    }
}

fn disk(places: &Places) -> Finding {
    let Ok(space) = statvfs(places.root()) else { return Note("free space is unknown".to_owned()) };
    // The types of both differ between systems.
    #[allow(clippy::unnecessary_cast, trivial_numeric_casts)]
    let free = (space.blocks_available() as u64).saturating_mul(space.fragment_size() as u64) >> 30;
    if free >= NEEDED_GIB {
        Good(format!("{free} GiB free"))
    } else {
        Bad(format!("{free} GiB free where {NEEDED_GIB} are needed; remove what is not"))
    }
}

fn port(port: u16, what: &str) -> Finding {
    if ports::is_free(port) {
        Good(format!("{port} is free for {what}"))
    } else {
        Note(format!("{port} is in use by another program; {what} will take the next free one"))
    }
}

fn answers(port: Option<u16>) -> Finding {
    match port {
        Some(port) if !ports::is_free(port) => Good(format!("listens on port {port}")),
        Some(port) => Bad(format!("nothing listens on port {port}; `cargo dev down` and `cargo dev up` again")),
        None => Note("starting".to_owned()),
    }
}

fn database(state: &State) -> Finding {
    let Some(url) = state.database_url() else { return Note("starting".to_owned()) };
    let asked = runtime().and_then(|runtime| {
        runtime.block_on(async {
            let client = schema::connect(&url).await?;
            client.simple_query("select 1").await.map(drop).map_err(schema::refused("answer"))
        })
    });
    match asked {
        Ok(()) => Good(format!("answers on port {}", state.postgres_port.unwrap_or_default())),
        Err(error) => Bad(format!("{error}; `cargo dev down` and `cargo dev up` again")),
    }
}
