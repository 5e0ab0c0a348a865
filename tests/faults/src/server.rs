//! The suite's own Postgres, which may be stopped as a power cut stops it, and its databases.

use crate::{Error, agents};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use switchyard_localstack::{
    Places, Port,
    places::Scratch,
    postgres::{Binaries, Options, Postgres},
    progress::quiet,
    python::Venv,
};
use switchyard_store::{AgentSpec, DatabaseUrl, Mode, RoutedBy, Since, Store, migrate};
use tokio_postgres::{Client, NoTls};

/// The database that every run's is a copy of.
const TEMPLATE: &str = "fault_template";

/// A Postgres of our own. Dropping it stops it and removes its data.
pub struct Server {
    process: Mutex<Option<Postgres>>,
    binaries: Binaries,
    options: Options,
    port: u16,
    scratch: Scratch,
}

impl Server {
    /// Starts it, durable: what was committed is there after [`Server::crash`]. Makes the template database, migrated, with the suite's agents
    /// registered.
    ///
    /// # Errors
    /// [`Error::Local`], [`Error::Store`], [`Error::Database`].
    pub async fn start() -> Result<Self, Error> {
        let places = Places::of_this_checkout();
        let venv = Venv::ensure(&places, &mut quiet)?;
        let scratch = places.scratch("faults")?;
        let binaries = Binaries::find(&venv)?;
        let mut options = Options {
            data: scratch.dir().join("data"),
            log: scratch.dir().join("postgres.log"),
            port: Port::Free,
            durable: true,
            max_connections: 600,
            settings: &[],
        };
        let postgres = Postgres::start(&binaries, &options)?;
        // The same again after a crash, since everybody has its address.
        let port = postgres.port();
        options.port = Port::Fixed(port);
        let url = postgres.create_database(TEMPLATE).await?;
        let server = Self { process: Mutex::new(Some(postgres)), binaries, options, port, scratch };
        let address: DatabaseUrl = url.parse()?;
        migrate(&address).await?;
        connect(&url).await?.batch_execute(agents::TABLES).await?;
        let store = Store::open(&address, 1)?;
        for (name, hears) in [("echo", agents::WRITTEN), ("tally", agents::ECHOED)] {
            let spec = AgentSpec {
                name: name.into(),
                subscribes: vec![hears.into()],
                routed_by: RoutedBy::Aggregate,
                max_attempts: 4,
            };
            store.register(&spec, Mode::Full, Since::Now).await?;
        }
        Ok(server)
    }

    /// Where programs of a run may write.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.scratch.dir()
    }

    /// Its port, which stays the same.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        switchyard_localstack::postgres::url(self.port(), database)
    }

    /// A fresh database: a copy of the template.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn database(&self, name: &str) -> Result<String, Error> {
        let admin = connect(&self.url("postgres")).await?;
        admin.batch_execute(&format!("drop database if exists {name} with (force)")).await?;
        // Copying a template that another copy is being made of is refused for a moment.
        for _ in 0..200 {
            match admin.batch_execute(&format!("create database {name} template {TEMPLATE}")).await {
                Err(error) if error.code().is_some_and(|code| code.code() == "55006") => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                made => return Ok(made.map(|()| self.url(name))?),
            }
        }
        Err(Error::Other(format!("the template is always in use: {name} could not be made of it")))
    }

    /// Drops a database with everybody in it.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn drop_database(&self, name: &str) -> Result<(), Error> {
        let admin = connect(&self.url("postgres")).await?;
        Ok(admin.batch_execute(&format!("drop database if exists {name} with (force)")).await?)
    }

    /// Stops it at once, without a checkpoint (an `immediate` shutdown), and starts it again. Blocks while it recovers.
    ///
    /// # Errors
    /// [`Error::Local`] where it does not come up again, [`Error::Other`] where there is no process to stop.
    pub fn crash(&self) -> Result<(), Error> {
        let mut slot = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.options.data.join("postmaster.pid");
        let text = fs::read_to_string(&file).map_err(Error::doing(format!("read {}", file.display())))?;
        let pid = text.lines().next().and_then(|pid| pid.trim().parse().ok());
        let pid = pid.ok_or_else(|| Error::Other(format!("{} names no process", file.display())))?;
        kill(Pid::from_raw(pid), Signal::SIGQUIT).map_err(|errno| Error::Other(format!("stop Postgres: {errno}")))?;
        drop(slot.take());
        *slot = Some(Postgres::start(&self.binaries, &self.options)?);
        Ok(())
    }
}

/// A connection that lives as long as its client.
///
/// # Errors
/// What the driver says.
pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
