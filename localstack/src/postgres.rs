//! A Postgres of our own on 127.0.0.1, without Docker and without an installation.
//!
//! Its programs come with the Python environment (a recent Postgres with pgvector) or from `SWITCHYARD_POSTGRES_BIN`. They are driven
//! directly. As root they run as `nobody`, since Postgres refuses root.

mod binaries;
mod databases;

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::guard::{self, Guarded, Whom, watched};
use crate::{Error, Port, ports};

use binaries::Account;
pub use binaries::Binaries;
pub use databases::{create_database, has_database};
use databases::{plain, statement};

/// The superuser of every database here.
const USER: &str = "postgres";

/// Generous: a first start on a slow disk, or crash recovery after a power cut.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A fast shutdown writes a checkpoint.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

const KNOB: &str = "SWITCHYARD_POSTGRES_PORT";

/// How to run a Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The data directory; made when it is not there. For root it must be reachable by `nobody`: below [`crate::Places::data`].
    pub data: PathBuf,
    /// Where its log goes; the previous one is overwritten.
    pub log: PathBuf,
    /// The port.
    pub port: Port,
    /// Whether commits survive a power cut. Without it tests are several times as fast, and a crash of the machine may ruin the data.
    pub durable: bool,
    /// `max_connections`.
    pub max_connections: u16,
    /// What else is set, by Postgres' own names.
    pub settings: &'static [(&'static str, &'static str)],
}

/// A running Postgres; dropping it stops it.
#[derive(Debug)]
pub struct Postgres {
    process: Guarded,
    port: u16,
    log: PathBuf,
}

impl Postgres {
    /// Makes the data directory if need be, starts the server and returns when it accepts connections: about a second for a new
    /// one, a quarter otherwise. It listens on 127.0.0.1 only, trusts whoever connects there, and has no Unix socket.
    ///
    /// # Errors
    /// [`Error::PortBusy`], [`Error::NoPort`], [`Error::PostgresVersion`], [`Error::NotReady`] with the server's own words,
    /// [`Error::File`], [`Error::Program`].
    pub fn start(binaries: &Binaries, options: &Options) -> Result<Postgres, Error> {
        let account = Account::suitable()?;
        make_data_directory(binaries, options, account)?;
        wait_for_previous(&options.data);
        // The picked port may be taken before Postgres binds it. Then another one is tried, a few times.
        let mut tries = 5;
        loop {
            let port = options.port.pick("Postgres", KNOB)?;
            match start_on(binaries, options, account, port) {
                Err(_) if tries > 1 && options.port.is_flexible() && !ports::is_free(port) => tries -= 1,
                Err(_) if !ports::is_free(port) => return Err(Error::PortBusy { port, what: "Postgres", knob: KNOB }),
                result => return result,
            }
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process that stands for it: it ends when Postgres ends.
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

    /// The URL of a database of this server, whether or not it exists.
    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    /// The URL of the maintenance database `postgres`: for making and dropping others.
    pub fn admin_url(&self) -> String {
        self.url("postgres")
    }

    /// Makes an empty database, with the extensions `vector` and `pg_trgm` as far as this server has them, and returns its URL.
    ///
    /// # Errors
    /// [`Error::DatabaseName`], [`Error::Database`]: also when it exists.
    pub async fn create_database(&self, name: &str) -> Result<String, Error> {
        create_database(&self.admin_url(), name).await?;
        Ok(self.url(name))
    }

    /// Makes a copy of a database without connections, in some ten milliseconds: a migrated one for each test.
    ///
    /// # Errors
    /// [`Error::DatabaseName`], [`Error::Database`].
    pub async fn clone_database(&self, name: &str, template: &str) -> Result<String, Error> {
        plain(template)?;
        statement(&self.admin_url(), name, &format!("create database \"{}\" template \"{template}\"", plain(name)?))
            .await?;
        Ok(self.url(name))
    }

    /// Drops a database and ends its connections. One that does not exist is no error.
    ///
    /// # Errors
    /// [`Error::DatabaseName`], [`Error::Database`].
    pub async fn drop_database(&self, name: &str) -> Result<(), Error> {
        statement(&self.admin_url(), name, &format!("drop database if exists \"{}\" with (force)", plain(name)?)).await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.process.stop(STOP_DEADLINE);
    }
}

/// The URL of a local database.
pub fn url(port: u16, database: &str) -> String {
    format!("postgres://{USER}@127.0.0.1:{port}/{database}")
}

/// `initdb` into a folder beside, which is renamed when it is whole: an interrupted one leaves nothing that looks like a database.
fn make_data_directory(binaries: &Binaries, options: &Options, account: Account) -> Result<(), Error> {
    let data = &options.data;
    let version = data.join("PG_VERSION");
    if version.is_file() {
        let found = fs::read_to_string(&version).map_err(Error::file("read", &version))?.trim().to_owned();
        let running = binaries.major();
        if found != running.to_string() {
            return Err(Error::PostgresVersion { data: data.clone(), found, running });
        }
        return Ok(());
    }
    let parent = data.parent().unwrap_or(data);
    fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
    let new = data.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new).map_err(Error::file("remove", &new))?;
    }
    fs::create_dir(&new).map_err(Error::file("create", &new))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).map_err(Error::file("protect", &new))?;
    account.own(&new)?;

    let mut initdb = watched(binaries.dir().join("initdb"), Signal::SIGTERM, Whom::Group);
    initdb.arg("--pgdata").arg(&new).args(["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--no-sync"]);
    // Unicode rules that are the same on every machine. Before Postgres 17 they are the C library's.
    if binaries.major() >= 17 {
        initdb.args(["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"]);
    } else {
        initdb.args(["--locale", "C.UTF-8", "--lc-messages", "C"]);
    }
    let mut process = spawn(&mut initdb, options, account)?;
    let status = process.wait().map_err(Error::file("run", binaries.dir()))?;
    if !status.success() {
        return Err(not_ready("could not make its data directory".to_owned(), &options.log));
    }
    fs::rename(&new, data).map_err(Error::file("create", data))
}

/// A server whose parent was killed shuts down by itself, which takes a moment; until then it keeps its data directory.
fn wait_for_previous(data: &Path) {
    let deadline = Instant::now() + STOP_DEADLINE;
    while Instant::now() < deadline && previous(data).is_some() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The process that has this data directory, if there is one. After a power cut the id may be another process's.
fn previous(data: &Path) -> Option<i32> {
    let pid = fs::read_to_string(data.join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline"));
    let is_postgres = match command {
        Ok(command) => String::from_utf8_lossy(&command).contains("postgres"),
        Err(_) => !Path::new("/proc/self").exists(),
    };
    (is_postgres && guard::is_alive(pid)).then_some(pid)
}

fn start_on(binaries: &Binaries, options: &Options, account: Account, port: u16) -> Result<Postgres, Error> {
    // A fast shutdown (SIGINT) even when we were killed: it takes no recovery at the next start. What tests throw away needs no care.
    let signal = if options.durable { Signal::SIGINT } else { Signal::SIGQUIT };
    let mut command = watched(binaries.dir().join("postgres"), signal, Whom::Child);
    command.arg("-D").arg(&options.data);
    let mut set = |name: &str, value: &str| {
        command.arg("-c").arg(format!("{name}={value}"));
    };
    set("port", &port.to_string());
    set("listen_addresses", "127.0.0.1");
    set("unix_socket_directories", "");
    set("max_connections", &options.max_connections.to_string());
    set("logging_collector", "off");
    set("log_destination", "stderr");
    if !options.durable {
        for name in ["fsync", "synchronous_commit", "full_page_writes"] {
            set(name, "off");
        }
    }
    for (name, value) in options.settings {
        set(name, value);
    }
    let process = spawn(&mut command, options, account)?;
    let mut postgres = Postgres { process, port, log: options.log.clone() };
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        // Its own words are the only sign that tells this server from another one on the same port.
        let log = fs::read_to_string(&options.log).unwrap_or_default();
        if log.contains("database system is ready to accept connections") {
            return Ok(postgres);
        }
        if !postgres.is_running() {
            return Err(not_ready("ended at once".to_owned(), &options.log));
        }
        if Instant::now() > deadline {
            return Err(not_ready(format!("was not ready after {} s", START_DEADLINE.as_secs()), &options.log));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn spawn(command: &mut Command, options: &Options, account: Account) -> Result<Guarded, Error> {
    if let Some(folder) = options.log.parent() {
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    }
    let log = File::create(&options.log).map_err(Error::file("create", &options.log))?;
    let also = log.try_clone().map_err(Error::file("write", &options.log))?;
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name); // PGPORT and the like would be obeyed
        }
    }
    command.env("LC_ALL", "C").current_dir("/").stdout(Stdio::from(log)).stderr(Stdio::from(also));
    Guarded::spawn(account.wear(command)).map_err(|source| Error::Program {
        program: "/bin/sh".to_owned(),
        source,
        way_out: "Switchyard needs a Unix shell",
    })
}

/// The telling line of the server's log: the last one that is fatal, or else the last.
fn not_ready(happened: String, log: &Path) -> Error {
    let text = fs::read_to_string(log).unwrap_or_default();
    let telling = |line: &&str| ["FATAL", "PANIC", "error:"].iter().any(|word| line.contains(word));
    let line = text.lines().rev().find(telling).or_else(|| text.lines().rev().find(|line| !line.trim().is_empty()));
    let reason = line.unwrap_or("it printed nothing").trim().to_owned();
    Error::NotReady { what: "Postgres", happened, reason, log: log.to_owned() }
}
