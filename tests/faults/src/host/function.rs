//! A function: as many processes as there are invocations at the same time, started when they are needed and used again.

pub use super::instance::Ended;
use super::instance::Instance;
use hyper::body::Bytes;
use nix::sys::signal::Signal;
use serde::Serialize;
use std::{
    collections::VecDeque,
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use switchyard_localstack::guard::{Whom, watched};

/// What a function is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Its program.
    pub program: PathBuf,
    /// Its environment; nothing is inherited.
    pub environment: Vec<(String, String)>,
    /// When an invocation is killed.
    pub timeout: Duration,
    /// Where its processes' output goes.
    pub log: PathBuf,
    /// A mistake that is switched on in every one of its processes.
    pub bug: Option<String>,
}

/// What became of a function's invocations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Processes started.
    pub started: u64,
    /// Invocations that were answered.
    pub answered: u64,
    /// Invocations that the function answered with an error.
    pub failed: u64,
    /// Invocations whose process died.
    pub died: u64,
    /// Invocations that were killed at their deadline.
    pub timed_out: u64,
}

/// A function. Clones are the same one; its processes end with the last of them.
#[derive(Clone)]
pub struct Function(Arc<Inner>);

struct Inner {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Arc<Instance>>,
    alive: Vec<Weak<Instance>>,
    plans: VecDeque<String>,
    counts: Counts,
    closed: bool,
}

impl Function {
    /// A function without any process yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner { settings, state: Mutex::default() }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.settings.name
    }

    /// Arms the next process that is started, and no other, with a plan of faults (see `switchyard-faults`).
    pub fn arm(&self, plan: String) {
        self.lock().plans.push_back(plan);
    }

    /// Invokes it, in a process that has nothing to do or in a new one.
    ///
    /// # Errors
    /// What the system says when the program cannot be started.
    pub async fn invoke(&self, payload: Bytes) -> io::Result<Ended> {
        let instance = match self.idle() {
            Some(instance) => instance,
            None => self.start().await?,
        };
        let ended = instance.invoke(payload, self.0.settings.timeout).await;
        let mut state = self.lock();
        match ended {
            Ended::Answered(_) => state.counts.answered += 1,
            Ended::Failed => state.counts.failed += 1,
            Ended::Died => state.counts.died += 1,
            Ended::TimedOut => state.counts.timed_out += 1,
        }
        if matches!(ended, Ended::Answered(_) | Ended::Failed) && !state.closed {
            state.idle.push(instance);
        }
        Ok(ended)
    }

    /// Sends a signal to one of its processes; `pick` draws which, of so many. `false` where there is none.
    pub fn signal(&self, signal: Signal, pick: impl FnOnce(usize) -> usize) -> bool {
        let alive = self.alive();
        let chosen = (!alive.is_empty()).then(|| alive.get(pick(alive.len()))).flatten();
        chosen.is_some_and(|instance| {
            instance.signal(signal);
            true
        })
    }

    /// Sends a signal to all of its processes and says to how many.
    pub fn signal_all(&self, signal: Signal) -> usize {
        let alive = self.alive();
        alive.iter().for_each(|instance| instance.signal(signal));
        alive.len()
    }

    /// What became of its invocations so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Ends all of its processes and starts none any more for what is under way.
    pub fn close(&self) {
        let idle = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.idle)
        };
        self.signal_all(Signal::SIGKILL);
        drop(idle);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> Option<Arc<Instance>> {
        let mut state = self.lock();
        while let Some(instance) = state.idle.pop() {
            if instance.is_alive() {
                return Some(instance);
            }
        }
        None
    }

    fn alive(&self) -> Vec<Arc<Instance>> {
        let mut state = self.lock();
        state.alive.retain(|instance| instance.upgrade().is_some_and(|instance| instance.is_alive()));
        state.alive.iter().filter_map(Weak::upgrade).collect()
    }

    async fn start(&self) -> io::Result<Arc<Instance>> {
        let settings = &self.0.settings;
        let plan = self.lock().plans.pop_front();
        let bug = settings.bug.as_ref().map(|bug| format!("bug={bug}"));
        let plan = bug.into_iter().chain(plan).collect::<Vec<_>>().join(";");
        let mut command = watched(&settings.program, Signal::SIGKILL, Whom::Child);
        command.env_clear().envs(settings.environment.iter().map(|(name, value)| (name, value)));
        command
            .env("AWS_LAMBDA_FUNCTION_NAME", &settings.name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", &settings.name)
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "stream");
        if !plan.is_empty() {
            command.env("SWITCHYARD_FAULTS", plan);
        }
        let log = File::options().create(true).append(true).open(&settings.log)?;
        command.stdout(log.try_clone()?).stderr(log);
        let instance = Arc::new(Instance::start(command).await?);
        let mut state = self.lock();
        state.counts.started += 1;
        state.alive.push(Arc::downgrade(&instance));
        Ok(instance)
    }
}
