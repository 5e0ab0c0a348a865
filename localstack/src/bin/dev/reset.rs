//! `cargo dev reset`.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use switchyard_localstack::{Error, Places};

use crate::arguments::Reset;
use crate::style::print_line;
use crate::{Outcome, down, state};

pub(crate) fn run(places: &Places, options: &Reset) -> Outcome {
    let database = places.data().join("postgres");
    if !options.yes && !is_wanted(&database)? {
        print_line("nothing was touched");
        return Ok(ExitCode::FAILURE);
    }
    if let Some(state) = state::running(places)? {
        down::stop(places, &state)?;
    }
    // Held until all is removed, so that no `up` starts in the middle of it.
    let Some(claim) = state::claim(places)? else {
        let pid = state::running(places)?.map_or(0, |state| state.pid);
        return Err(Error::StillStarting { pid });
    };
    remove(&database)?;
    remove(&database.with_extension("new"))?;
    for name in ["logs", "localstack", "state.json"] {
        remove(&places.state().join(name))?;
    }
    drop(claim);
    // Both hold the files of tests that may be running; they go only when they are empty.
    let _ = fs::remove_file(places.state().join("lock"));
    let _ = fs::remove_dir(places.data());
    let _ = fs::remove_dir(places.state());
    print_line("the database and the state of this checkout are gone; `cargo dev` starts afresh");
    Ok(ExitCode::SUCCESS)
}

fn is_wanted(database: &Path) -> Result<bool, Error> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::Unasked { what: "reset" });
    }
    let mut out = std::io::stdout();
    let mut answer = String::new();
    let asked = write!(out, "Stop everything and delete the database in {}? [y/N] ", database.display())
        .and_then(|()| out.flush())
        .and_then(|()| std::io::stdin().read_line(&mut answer));
    Ok(asked.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Removes a file or a folder; one that is not there is what was wanted.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(Error::file("remove", path)),
    }
}
