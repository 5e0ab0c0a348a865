//! A function: as many processes as there are invocations at the same time, started when they are needed and used again.

pub use super::instance::Ended;
use super::instance::Instance;
use hyper::body::Bytes;
use nix::sys::signal::Signal;
use serde::Serialize;
use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use switchyard_localstack::guard::{Whom, watched};
use tokio::sync::watch;

/// How long the processes of a crowd wait for each other.
const GATHERING: Duration = Duration::from_secs(60);

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
    /// Processes that were there to be killed, and were.
    pub killed: u64,
    /// Processes that were found stopped when they were continued.
    pub stalled: u64,
    /// The most processes that were at work at the same time, those included that wait for their crowd.
    pub most_at_once: u64,
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
    struck: BTreeMap<String, u64>,
    in_flight: u64,
    crowd: Option<Crowd>,
    closed: bool,
}

/// Processes that begin together: none is given work before so many have been started.
#[derive(Clone)]
struct Crowd {
    wanted: usize,
    started: watch::Sender<usize>,
}

/// An invocation that is under way, whatever ends it.
struct Flight<'a>(&'a Function);

impl<'a> Flight<'a> {
    fn of(function: &'a Function) -> Self {
        let mut state = function.lock();
        state.in_flight += 1;
        state.counts.most_at_once = state.counts.most_at_once.max(state.in_flight);
        Self(function)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
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

    /// Gives no process work before so many processes have been started, so that their first invocations are at the same time; or before a minute
    /// has passed.
    pub fn begin_together(&self, processes: usize) {
        self.lock().crowd = Some(Crowd { wanted: processes, started: watch::Sender::new(0) });
    }

    /// Whether nothing is at work.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lock().in_flight == 0
    }

    /// Invokes it, in a process that has nothing to do or in a new one.
    ///
    /// # Errors
    /// What the system says when the program cannot be started.
    pub async fn invoke(&self, payload: Bytes) -> io::Result<Ended> {
        let _flight = Flight::of(self);
        let instance = match self.idle() {
            Some(instance) => instance,
            None => self.start().await?,
        };
        let crowd = self.lock().crowd.clone();
        if let Some(crowd) = crowd {
            let mut started = crowd.started.subscribe();
            // A crowd that never gathers shows in how many were at work at once.
            let _ = tokio::time::timeout(GATHERING, started.wait_for(|started| *started >= crowd.wanted)).await;
        }
        let ended = instance.invoke(payload, self.0.settings.timeout).await;
        let mut state = self.lock();
        match ended {
            Ended::Answered(_) => state.counts.answered += 1,
            Ended::Failed => state.counts.failed += 1,
            Ended::Died => {
                state.counts.died += 1;
                if !instance.was_killed()
                    && let Some(point) = planned(instance.plan(), "kill")
                {
                    *state.struck.entry(format!("killed at {point}")).or_default() += 1;
                }
            }
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
        let hit = chosen.is_some_and(|instance| instance.signal(signal));
        if hit && signal == Signal::SIGKILL {
            self.lock().counts.killed += 1;
        }
        hit
    }

    /// Continues all of its processes, and counts those that were stopped.
    pub fn wake(&self) {
        for instance in self.alive() {
            if instance.is_stopped() {
                let mut state = self.lock();
                state.counts.stalled += 1;
                if let Some(point) = planned(instance.plan(), "stop") {
                    *state.struck.entry(format!("stopped at {point}")).or_default() += 1;
                }
            }
            instance.signal(Signal::SIGCONT);
        }
    }

    /// What became of its invocations so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// What plans have done to its processes, by place.
    #[must_use]
    pub fn struck(&self) -> BTreeMap<String, u64> {
        self.lock().struck.clone()
    }

    /// Ends all of its processes and starts none any more for what is under way.
    pub fn close(&self) {
        let idle = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.idle)
        };
        for instance in self.alive() {
            instance.signal(Signal::SIGKILL);
        }
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
        let log = File::options().create(true).append(true).open(&settings.log)?;
        command.stdout(log.try_clone()?).stderr(log);
        let instance = Arc::new(Instance::start(command, plan).await?);
        let mut state = self.lock();
        state.counts.started += 1;
        state.alive.push(Arc::downgrade(&instance));
        if let Some(crowd) = &state.crowd {
            crowd.started.send_modify(|started| *started += 1);
        }
        Ok(instance)
    }
}

/// Where a plan does this to its process, if it does so anywhere.
fn planned<'a>(plan: &'a str, what: &str) -> Option<&'a str> {
    plan.split(';')
        .filter_map(|term| term.split_once('='))
        .find(|(_, action)| action.starts_with(what))
        .map(|(point, _)| point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_where_it_strikes() {
        assert_eq!(planned("bug=no_claim;runtime.after_claim=kill@2", "kill"), Some("runtime.after_claim"));
        assert_eq!(planned("runtime.after_preview=stop@1", "kill"), None);
        assert_eq!(planned("", "kill"), None);
    }

    fn function() -> Function {
        Function::new(Settings {
            name: "function".into(),
            program: "/bin/sh".into(),
            environment: Vec::new(),
            timeout: Duration::from_millis(300),
            log: "/dev/null".into(),
            bug: None,
        })
    }

    #[tokio::test]
    async fn what_is_at_work_is_counted_and_what_is_not_there_cannot_be_killed() {
        let function = function();
        assert!(!function.signal(Signal::SIGKILL, |_| 0) && function.is_idle());
        // A shell without input ends at once: the invocation has died, and by nobody's plan.
        assert!(matches!(function.invoke(Bytes::new()).await, Ok(Ended::Died)));
        let counts = function.counts();
        assert_eq!((counts.killed, counts.died, counts.most_at_once), (0, 1, 1));
        assert!(function.struck().is_empty() && function.is_idle());
    }

    #[tokio::test]
    async fn a_crowd_is_at_work_at_the_same_time() {
        let function = function();
        function.begin_together(3);
        let (one, two, three) =
            tokio::join!(function.invoke(Bytes::new()), function.invoke(Bytes::new()), function.invoke(Bytes::new()));
        assert!(one.is_ok() && two.is_ok() && three.is_ok());
        assert_eq!((function.counts().started, function.counts().most_at_once), (3, 3));
    }
}
