//! `cargo dev up`: from nothing to a system that works, and then a look at it working.
//!
//! What does not depend on each other is done at the same time: compiling the functions takes a processor, installing packages the
//! network. Each thread reports its failure to the main thread, which waits for the first of: all is ready, something failed, the user
//! wants to stop. In every case but the first it stops what has been started so far and leaves.

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use switchyard_localstack::bootstraps::{self, Bootstraps};
use switchyard_localstack::localstack::{self, LocalStack};
use switchyard_localstack::postgres::{self, Binaries, Postgres};
use switchyard_localstack::python::Venv;
use switchyard_localstack::{Error, Places, Port};

use crate::arguments::Up;
use crate::feedback::{self, Format, SAMPLE_PROJECT};
use crate::signals::{self, Stop};
use crate::state::{self, Claim, State};
use crate::steps::Steps;
use crate::style::{BOLD, DIM, count, paint, print_line};
use crate::{Outcome, deployment, detach, follow, runtime, schema};

/// The servers' ports by default, if they are free.
pub(crate) const LOCALSTACK_PORT: u16 = 4566;
pub(crate) const POSTGRES_PORT: u16 = 5544;

/// How far back in the event log a start looks that sends no samples: a handful of events with what followed from them.
const EARLIER: i64 = 12;

/// Every process of every function holds a few.
const MAX_CONNECTIONS: u16 = 300;

/// What the main thread waits for.
enum Message {
    Interrupted,
    Failed(Error),
    Ready(Box<Ready>),
}

/// What has come of the setting up.
struct Ready {
    state: State,
    /// The place in the event log from which on to follow.
    after: i64,
    /// Whether events of an earlier start come first.
    earlier: bool,
}

/// What has been started. LocalStack goes first: its functions hold connections.
#[derive(Default)]
struct Servers {
    localstack: Option<LocalStack>,
    postgres: Option<Postgres>,
}

impl Servers {
    /// Fails when one of them has ended by itself.
    fn check(&mut self) -> Result<(), Error> {
        if let Some(server) = &mut self.localstack
            && !server.is_running()
        {
            return Err(Error::Died { what: "LocalStack", log: server.log().to_owned() });
        }
        if let Some(server) = &mut self.postgres
            && !server.is_running()
        {
            return Err(Error::Died { what: "Postgres", log: server.log().to_owned() });
        }
        Ok(())
    }
}

pub(crate) fn run(places: &Places, options: &Up) -> Outcome {
    if options.background {
        detach::leave_the_terminal();
    } else if options.detach && !state::is_claimed(places)? {
        return detach::run(places, options);
    }
    let (messages, heard) = channel();
    let interrupt = messages.clone();
    let stop = signals::catch(move || drop(interrupt.send(Message::Interrupted)))?;
    let claim = state::claim(places)?;
    let base = match &claim {
        Some(_) => {
            let own = State::of_this_process(options.background);
            own.write(places)?;
            own
        }
        None => state::ready(places)?,
    };
    let work = Arc::new(Work {
        places: places.clone(),
        options: options.clone(),
        base,
        is_owner: claim.is_some(),
        steps: Steps::new(),
        servers: Mutex::default(),
        messages,
    });
    Arc::clone(&work).begin();
    let result = attend(&work, &heard, &stop);
    if claim.is_some() {
        work.stop_servers();
    }
    drop::<Option<Claim>>(claim);
    result
}

/// The main thread's part: waits, follows, and says with which exit code to leave.
fn attend(work: &Work, heard: &Receiver<Message>, stop: &Stop) -> Outcome {
    let ready = match heard.recv() {
        Ok(Message::Ready(ready)) => ready,
        Ok(Message::Failed(error)) => {
            work.steps.end();
            return Err(error);
        }
        Ok(Message::Interrupted) | Err(_) => {
            work.steps.end();
            return Ok(ExitCode::from(signals::INTERRUPTED));
        }
    };
    if work.options.background {
        return work.stay(heard);
    }
    greet(&ready.state);
    if work.options.detach {
        return Ok(ExitCode::SUCCESS); // it ran already
    }
    let last = if work.is_owner {
        "Ctrl-C stops everything"
    } else {
        "Ctrl-C ends the watching; `cargo dev down` stops everything"
    };
    print_line(format!("\n{}", paint(DIM, format!("Following the stream. {last}."))));
    if ready.earlier {
        let again = "`cargo dev send \"...\"` sends one more, `cargo dev up --samples` all the samples again.";
        print_line(paint(
            DIM,
            format!("The samples went out at the first start. These are the last events of then; {again}"),
        ));
    }
    print_line("");
    let url = ready.state.database_url().unwrap_or_default();
    runtime()?.block_on(async {
        let store = schema::store(&url)?;
        follow::follow(&store, ready.after, stop, || work.servers().check()).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What all threads share.
struct Work {
    places: Places,
    options: Up,
    /// What ran before, or what this process has just begun.
    base: State,
    /// Whether this process runs the servers.
    is_owner: bool,
    steps: Steps,
    servers: Mutex<Servers>,
    messages: Sender<Message>,
}

impl Work {
    /// Sets everything up in the background and sends a message to the main thread when it is done.
    fn begin(self: Arc<Self>) {
        let functions = self.parallel(Work::build);
        let done = self.parallel(move |work| work.set_up(&functions));
        let messages = self.messages.clone();
        std::thread::spawn(move || {
            if let Ok(Some(ready)) = done.recv() {
                let _ = messages.send(Message::Ready(Box::new(ready)));
            }
        });
    }

    /// Does something at the same time as the rest. Its failure goes to the main thread at once, and whoever waits for its result
    /// finds that there is none.
    fn parallel<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Work>) -> Result<T, Error> + Send + 'static,
    ) -> Receiver<T> {
        let (give, take) = channel();
        let shared = Arc::clone(self);
        std::thread::spawn(move || match work(&shared) {
            Ok(result) => drop(give.send(result)),
            Err(error) => drop(shared.messages.send(Message::Failed(error))),
        });
        take
    }

    fn build(self: &Arc<Self>) -> Result<Bootstraps, Error> {
        self.steps.run("Functions", |step| {
            let bootstraps = bootstraps::build(&self.places, &mut |tick| step.tick(tick))?;
            let note = format!("{}: {}", count(bootstraps.names.len() as u64, "function"), bootstraps.names.join(", "));
            Ok((bootstraps, note))
        })
    }

    /// `None` when another thread has failed and sent its error.
    fn set_up(self: &Arc<Self>, functions: &Receiver<Bootstraps>) -> Result<Option<Ready>, Error> {
        let venv = self.tools()?;
        let mut state = self.base.clone();
        let localstack = if self.is_owner {
            let for_localstack = venv.clone();
            let localstack = self.parallel(move |work| work.start_localstack(&for_localstack));
            let (port, pid) = self.start_postgres(&venv)?;
            (state.postgres_port, state.postgres_pid) = (Some(port), Some(pid));
            Some(localstack)
        } else {
            None
        };
        let runtime = runtime()?;
        self.prepare_database(&runtime, &state)?;
        let Ok(bootstraps) = functions.recv() else { return Ok(None) };
        if let Some(localstack) = localstack {
            let Ok((port, pid)) = localstack.recv() else { return Ok(None) };
            (state.localstack_port, state.localstack_pid) = (Some(port), Some(pid));
        }
        self.deploy(&runtime, &venv, &mut state, &bootstraps)?;
        let (after, earlier) = self.send_samples(&runtime, &state)?;
        state.ready = true;
        state.write(&self.places)?;
        Ok(Some(Ready { state, after, earlier }))
    }

    fn tools(&self) -> Result<Venv, Error> {
        self.steps.run("Tools", |step| {
            let venv = Venv::ensure(&self.places, &mut |tick| step.tick(tick))?;
            let note = format!("Python {}, LocalStack and Postgres in {}", venv.version(), venv.dir().display());
            Ok((venv, note))
        })
    }

    fn start_postgres(&self, venv: &Venv) -> Result<(u16, u32), Error> {
        self.steps.run("Postgres", |_| {
            let binaries = Binaries::find(venv)?;
            let options = postgres::Options {
                data: self.places.data().join("postgres"),
                log: self.places.logs().join("postgres.log"),
                port: self.options.postgres_port.map_or(Port::Preferred(POSTGRES_PORT), Port::Fixed),
                durable: true,
                max_connections: MAX_CONNECTIONS,
                settings: &[],
            };
            let postgres = Postgres::start(&binaries, &options)?;
            let (port, pid) = (postgres.port(), postgres.pid());
            self.servers().postgres = Some(postgres);
            Ok(((port, pid), format!("version {} on port {port}", binaries.major())))
        })
    }

    fn start_localstack(&self, venv: &Venv) -> Result<(u16, u32), Error> {
        self.steps.run("LocalStack", |_| {
            let options = localstack::Options {
                dir: self.places.state().join("localstack"),
                log: self.places.logs().join("localstack.log"),
                port: self.options.port.map_or(Port::Preferred(LOCALSTACK_PORT), Port::Fixed),
            };
            let localstack = LocalStack::start(venv, &options)?;
            let (port, pid) = (localstack.port(), localstack.pid());
            self.servers().localstack = Some(localstack);
            Ok(((port, pid), format!("on port {port}")))
        })
    }

    fn prepare_database(&self, runtime: &tokio::runtime::Runtime, state: &State) -> Result<(), Error> {
        self.steps.run("Schema", |_| {
            let port = state.postgres_port.ok_or(Error::NotRunning)?;
            let changed = runtime.block_on(schema::prepare(port))?;
            let note = if changed { "set up" } else { "up to date" }.to_owned();
            Ok(((), note))
        })
    }

    fn deploy(
        &self,
        runtime: &tokio::runtime::Runtime,
        venv: &Venv,
        state: &mut State,
        bootstraps: &Bootstraps,
    ) -> Result<(), Error> {
        let (Some(url), Some(endpoint)) = (state.database_url(), state.endpoint()) else {
            return Err(Error::NotRunning);
        };
        self.steps.run("Agents", |_| {
            let store = schema::store(&url)?;
            runtime.block_on(deployment::register(&store, bootstraps))?;
            let again = if self.is_owner { runtime.block_on(schema::start_over(&url))? } else { 0 };
            let registered = format!("{} registered", bootstraps.agents.join(", "));
            Ok((
                (),
                if again == 0 { registered } else { format!("{registered}; {again} unfinished events go out again") },
            ))
        })?;
        state.agents.clone_from(&bootstraps.agents);
        let fingerprint = deployment::fingerprint(&self.places, bootstraps)?;
        let is_deployed = !self.is_owner && state.deployed == fingerprint;
        let outputs = self.steps.run("Deployment", |step| {
            if is_deployed {
                return Ok((state.outputs.clone(), "unchanged".to_owned()));
            }
            let outputs =
                deployment::deploy(&self.places, venv, &endpoint, &url, bootstraps, &mut |tick| step.tick(tick))?;
            Ok((outputs, format!("template.yaml as stack {}", state::STACK)))
        })?;
        (state.outputs, state.deployed) = (outputs, fingerprint);
        Ok(())
    }

    /// Returns the place in the event log from which on there is something to see: before the samples, or where they are not wanted, before the
    /// last events of an earlier start. And whether it is these.
    fn send_samples(&self, runtime: &tokio::runtime::Runtime, state: &State) -> Result<(i64, bool), Error> {
        let url = state.database_url().ok_or(Error::NotRunning)?;
        let path = self.places.localstack().join("samples/feedback.jsonl");
        runtime.block_on(async {
            let after = schema::store(&url)?.newest().await?;
            let client = schema::connect(&url).await?;
            let is_wanted = self.options.samples || !schema::has_feedback(&client).await?;
            if self.options.no_samples || !is_wanted {
                return Ok(((after - EARLIER).max(0), after > 0));
            }
            let content = std::fs::read(&path).map_err(Error::file("read", &path))?;
            let rows = feedback::parse(Format::JsonLines, &content, SAMPLE_PROJECT).unwrap_or_default();
            let mut sent = 0_u64;
            for feedback in rows.iter().filter_map(|row| row.content.as_ref().ok()) {
                schema::insert(&client, feedback).await.map_err(schema::refused("take the samples"))?;
                sent += 1;
            }
            self.steps.run("Samples", |_| Ok(((), format!("{} of feedback sent", count(sent, "piece")))))?;
            Ok((after, false))
        })
    }

    /// What the process in the background does: nothing, until it is told to stop or a server ends.
    fn stay(&self, heard: &Receiver<Message>) -> Outcome {
        loop {
            match heard.recv_timeout(Duration::from_secs(1)) {
                Ok(Message::Interrupted) => return Ok(ExitCode::SUCCESS),
                Ok(Message::Failed(error)) => return Err(error),
                Ok(Message::Ready(_)) | Err(RecvTimeoutError::Timeout) => self.servers().check()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(ExitCode::SUCCESS),
            }
        }
    }

    fn servers(&self) -> std::sync::MutexGuard<'_, Servers> {
        // What a panicking thread leaves here is still to be stopped.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop_servers(&self) {
        let servers = std::mem::take(&mut *self.servers());
        if servers.localstack.is_none() && servers.postgres.is_none() {
            return;
        }
        let _ = Steps::new().run("Stopping", |_| {
            drop(servers);
            Ok(((), "nothing is left running".to_owned()))
        });
    }
}

/// Where everything is.
pub(crate) fn greet(state: &State) {
    let line = |name: &str, value: &str| print_line(format!("  {} {value}", paint(DIM, format!("{name:<11}"))));
    print_line(format!("\n{}", paint(BOLD, "Switchyard is up.")));
    line("Postgres", &state.database_url().unwrap_or_default());
    let endpoint = state.endpoint().unwrap_or_default();
    line("LocalStack", &format!("{endpoint}  account {}, region {}", state::ACCOUNT, localstack::REGION));
    line("Agents", &state.agents.join(", "));
    line("Try", "cargo dev send \"Export to CSV fails\"   cargo dev status   cargo dev logs -f   cargo dev down");
}
