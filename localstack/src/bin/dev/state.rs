//! What runs in this checkout.
//!
//! `.switchyard/lock` is held, as a file lock, by the process that runs everything for as long as it lives: the kernel lets go of it
//! however that process ends. `.switchyard/state.json` says what it runs. The process id in it is believed only while the lock is
//! held and when the process was started at the moment that is written beside it: ids are used again.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use switchyard_localstack::{Error, Places};

/// The account of `cargo dev`: the one that every tool uses on LocalStack when it is not told otherwise.
pub(crate) const ACCOUNT: &str = "000000000000";
/// The stack's name.
pub(crate) const STACK: &str = "switchyard";
/// The database's name.
pub(crate) const DATABASE: &str = "switchyard";

/// The contents of `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The process that runs everything.
    pub(crate) pid: i32,
    /// When it was started, as the system tells it; only compared.
    pub(crate) started: String,
    /// Whether everything is up and deployed.
    pub(crate) ready: bool,
    /// Whether it runs in the background.
    pub(crate) detached: bool,
    /// Port of Postgres, once it runs.
    pub(crate) postgres_port: Option<u16>,
    /// Port of LocalStack, once it runs.
    pub(crate) localstack_port: Option<u16>,
    /// Process ids of the servers, for people.
    pub(crate) postgres_pid: Option<u32>,
    /// As above.
    pub(crate) localstack_pid: Option<u32>,
    /// The outputs of the stack.
    pub(crate) outputs: BTreeMap<String, String>,
    /// The agents, by name.
    pub(crate) agents: Vec<String>,
    /// Tells what is deployed from what is built now.
    pub(crate) deployed: String,
}

impl State {
    /// A state of this process, which has started nothing yet.
    pub(crate) fn of_this_process(detached: bool) -> State {
        let pid = i32::try_from(std::process::id()).unwrap_or_default();
        State {
            pid,
            started: started(pid).unwrap_or_default(),
            ready: false,
            detached,
            postgres_port: None,
            localstack_port: None,
            postgres_pid: None,
            localstack_pid: None,
            outputs: BTreeMap::new(),
            agents: Vec::new(),
            deployed: String::new(),
        }
    }

    /// Writes it in one step: a reader sees the old one or the new one.
    pub(crate) fn write(&self, places: &Places) -> Result<(), Error> {
        let path = path(places);
        let aside = path.with_extension("json.new");
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        fs::write(&aside, text).map_err(Error::file("write", &aside))?;
        fs::rename(&aside, &path).map_err(Error::file("write", &path))
    }

    /// The database's URL, once Postgres runs.
    pub(crate) fn database_url(&self) -> Option<String> {
        self.postgres_port.map(|port| switchyard_localstack::postgres::url(port, DATABASE))
    }

    /// LocalStack's endpoint, once it runs.
    pub(crate) fn endpoint(&self) -> Option<String> {
        self.localstack_port.map(switchyard_localstack::localstack::endpoint)
    }
}

/// The right to run this checkout's system; given up with the value.
#[derive(Debug)]
pub(crate) struct Claim {
    _lock: File,
    state: PathBuf,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.state);
    }
}

/// Takes the right to run this checkout's system, or `None` when another process has it.
pub(crate) fn claim(places: &Places) -> Result<Option<Claim>, Error> {
    fs::create_dir_all(places.state()).map_err(Error::file("create", places.state()))?;
    let path_of_lock = lock_path(places);
    let lock = open_lock(&path_of_lock)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(Claim { _lock: lock, state: path(places) })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::file("lock", &path_of_lock)(error)),
    }
}

/// What runs in this checkout now, if anything does.
pub(crate) fn running(places: &Places) -> Result<Option<State>, Error> {
    if !is_claimed(places)? {
        return Ok(None);
    }
    let path = path(places);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
    let Ok(state) = serde_json::from_str::<State>(&text) else { return Ok(None) };
    Ok((started(state.pid).as_deref() == Some(&state.started)).then_some(state))
}

/// What runs and is ready, or the error that says how to get there.
pub(crate) fn ready(places: &Places) -> Result<State, Error> {
    match running(places)? {
        Some(state) if state.ready => Ok(state),
        Some(state) => Err(Error::StillStarting { pid: state.pid }),
        None => Err(Error::NotRunning),
    }
}

/// Whether a process holds the lock.
pub(crate) fn is_claimed(places: &Places) -> Result<bool, Error> {
    let path = lock_path(places);
    if !path.exists() {
        return Ok(false);
    }
    let lock = open_lock(&path)?;
    // A shared lock is refused only by the exclusive one of the process that runs everything, so that two of these do not see each other.
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(Error::file("lock", &path)(error)),
    }
}

fn open_lock(path: &Path) -> Result<File, Error> {
    File::options().create(true).truncate(false).write(true).read(true).open(path).map_err(Error::file("open", path))
}

fn path(places: &Places) -> PathBuf {
    places.state().join("state.json")
}

fn lock_path(places: &Places) -> PathBuf {
    places.state().join("lock")
}

/// When a process was started, in the system's own words; `None` when there is no such process.
fn started(pid: i32) -> Option<String> {
    if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
        return start_time(&stat).map(str::to_owned);
    }
    let output =
        Command::new("ps").args(["-o", "lstart=", "-p", &pid.to_string()]).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The 22nd field of Linux's stat; the second, a name in parentheses, may hold spaces and parentheses of its own.
fn start_time(stat: &str) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_a_name_with_spaces() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10 18446744073709551615";
        assert_eq!(start_time(stat), Some("987654"));
    }

    #[test]
    fn a_process_has_the_same_start_time_whenever_it_is_asked() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(started(own).is_some());
        assert_eq!(started(own), started(own));
        assert_ne!(started(own), started(1));
    }

    #[test]
    fn a_process_that_is_not_there_has_none() {
        assert_eq!(started(i32::MAX), None);
    }
}
