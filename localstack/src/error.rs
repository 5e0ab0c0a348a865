//! Everything that can go wrong while running Switchyard on one machine.
//!
//! Each message is one line that names the thing and the way out, since the `dev` command prints it as it is. What a program
//! wrote before it failed goes to a log file, and the message names that file.

use std::io;
use std::path::{Path, PathBuf};

use switchyard_store::StoreError;

/// The one error type of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be read, written, made or removed.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// The attempted action: `read`, `write`, `create`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program could not be started at all.
    #[error("cannot run {program}: {source}; {way_out}")]
    Program {
        /// The program's name or path.
        program: String,
        /// What the system said.
        source: io::Error,
        /// What the reader can do about it.
        way_out: &'static str,
    },
    /// No usable Python on this machine.
    #[error("no Python 3.11, 3.12 or 3.13 found{found}; install one, or name it in SWITCHYARD_PYTHON")]
    NoPython {
        /// What was found instead, ` (python3 is 3.9.2)`, or nothing.
        found: String,
    },
    /// The Python has no `venv` or no `ensurepip`, as Debian ships it.
    #[error("{python} cannot make virtual environments; install its venv package (Debian: apt install python3-venv)")]
    NoVenv {
        /// The interpreter.
        python: String,
    },
    /// pip could not install the pinned packages.
    #[error("pip could not install the pinned packages: {reason}; the whole output is in {}", log.display())]
    Install {
        /// pip's own last error line.
        reason: String,
        /// Where pip's output is kept.
        log: PathBuf,
    },
    /// A port that was asked for by number is in use.
    #[error("port {port} for {what} is in use by another program; free it, or choose another with {knob}")]
    PortBusy {
        /// The port.
        port: u16,
        /// Who wanted it.
        what: &'static str,
        /// The option or variable that sets it.
        knob: &'static str,
    },
    /// Not one of the ports that were tried is free.
    #[error("no free port for {what} between {from} and {to}; choose one with {knob}")]
    NoPort {
        /// Who wanted it.
        what: &'static str,
        /// First port tried.
        from: u16,
        /// Last port tried.
        to: u16,
        /// The option or variable that sets it.
        knob: &'static str,
    },
    /// The Postgres programs are missing or do not run.
    #[error("no usable Postgres in {}: {reason}; set SWITCHYARD_POSTGRES_BIN to a folder with initdb and postgres", dir.display())]
    PostgresMissing {
        /// The folder that was looked into.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Postgres must not run as root and there is no other account to run it as.
    #[error("Postgres refuses to run as root and this machine has no user `nobody`; run as a normal user")]
    NobodyUserMissing,
    /// The data directory belongs to another major version of Postgres.
    #[error("the database in {} was made by Postgres {found}, and this is {running}; `cargo dev reset` starts afresh", data.display())]
    PostgresVersion {
        /// The data directory.
        data: PathBuf,
        /// The major version that made it.
        found: String,
        /// The major version of the programs.
        running: u32,
    },
    /// A program that should keep running ended or did not become ready in time.
    #[error("{what} {happened}: {reason}; its log is {}", log.display())]
    NotReady {
        /// The program: `Postgres`, `LocalStack`.
        what: &'static str,
        /// `ended` or `was not ready after 60 s`.
        happened: String,
        /// The last telling line of its log.
        reason: String,
        /// The log file.
        log: PathBuf,
    },
    /// A statement of the runner itself failed on the local database.
    #[error("the local database did not {doing}: {}", in_full(source))]
    Database {
        /// The attempted action.
        doing: String,
        /// What the driver said.
        source: tokio_postgres::Error,
    },
    /// A name that is to become a database is not a plain lower-case identifier of at most 63 bytes.
    #[error("`{name}` is not a valid database name: use lower-case letters, digits and underscores, at most 63")]
    DatabaseName {
        /// The refused name.
        name: String,
    },
    /// `cargo metadata` failed or printed something else.
    #[error("cargo cannot describe this workspace: {reason}")]
    Metadata {
        /// cargo's last line, or what was unexpected.
        reason: String,
    },
    /// The functions do not compile.
    #[error("the functions do not build: {reason}; the compiler's output is in {}", log.display())]
    Build {
        /// The compiler's first error line.
        reason: String,
        /// Where the compiler's output is kept.
        log: PathBuf,
    },
    /// A command of the LocalStack package failed.
    #[error("{command} failed: {reason}")]
    Command {
        /// The command: `deploy`, `undeploy`.
        command: String,
        /// Its message.
        reason: String,
    },
    /// Nothing runs in this checkout, and the command needs what would.
    #[error("nothing runs in this checkout; start it with `cargo dev` or `cargo dev up --detach`")]
    NotRunning,
    /// What runs in this checkout is not ready yet.
    #[error("the system of this checkout is still starting (process {pid}); try again in a moment")]
    StillStarting {
        /// The process that starts it.
        pid: i32,
    },
    /// What runs in this checkout did not end when it was told to.
    #[error(
        "process {pid} runs this checkout's system and did not stop within {seconds} s; end it with `kill -9 {pid}`"
    )]
    NotStopping {
        /// The process that runs it.
        pid: i32,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A server of the running system ended by itself.
    #[error("{what} ended by itself; its last words are in {}", log.display())]
    Died {
        /// The server.
        what: &'static str,
        /// Its log.
        log: PathBuf,
    },
    /// There is no agent of this name.
    #[error("there is no agent {agent:?}; the agents are {agents}")]
    NoAgent {
        /// The name that was asked for.
        agent: String,
        /// Those that there are.
        agents: String,
    },
    /// An agent's program did not declare itself.
    #[error("the agent {agent} does not declare itself: {reason}")]
    Declaration {
        /// The agent.
        agent: String,
        /// What it printed or said.
        reason: String,
    },
    /// An input cannot be read as feedback at all.
    #[error("{input} contains no feedback: {reason}")]
    Input {
        /// The file, or `standard input`.
        input: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An option has a value that makes no sense.
    #[error("{option} {value:?} {wrong}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// A question needs a person, and there is none.
    #[error("{what} asks first, and there is no terminal to ask in; add --yes")]
    Unasked {
        /// The command.
        what: &'static str,
    },
    /// The database was set up by another version.
    #[error("{source}; `cargo dev reset` starts afresh")]
    Schema {
        /// What does not fit.
        source: StoreError,
    },
    /// The store failed.
    #[error("{0}; `cargo dev doctor` finds the cause")]
    Store(#[from] StoreError),
}

impl Error {
    /// Wraps what the system said of a file: `.map_err(Error::file("read", &path))`.
    pub fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { doing, path, source }
    }
}

/// The driver keeps the telling part (`connection refused`, the server's message) in its source.
fn in_full(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}
