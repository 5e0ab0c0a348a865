//! One process of a function, and the Runtime API that it asks for work.

use crate::http::{self, Answer, Call, Cut};
use hyper::{Method, StatusCode, body::Bytes, header::HeaderValue};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{
    fs, io,
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use switchyard_localstack::guard::Guarded;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

/// How soon the death of a process that works on something is noticed.
const LOOK: Duration = Duration::from_millis(20);

/// How an invocation ended.
#[derive(Debug)]
pub enum Ended {
    /// With this answer.
    Answered(Bytes),
    /// With an error that the function itself reported.
    Failed,
    /// The process died.
    Died,
    /// It was killed at the deadline.
    TimedOut,
}

struct Invocation {
    id: String,
    deadline: SystemTime,
    payload: Bytes,
    answer: oneshot::Sender<Option<Bytes>>,
}

/// A running process. Dropping it ends it, together with everything that it has started.
pub(super) struct Instance {
    process: Mutex<Guarded>,
    group: Pid,
    /// The faults that it carries out on itself; empty where there are none.
    plan: String,
    killed: AtomicBool,
    work: mpsc::Sender<Invocation>,
    _api: http::Server,
}

struct Api {
    work: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    current: Mutex<Option<(String, oneshot::Sender<Option<Bytes>>)>>,
}

impl Instance {
    /// Starts the process; `command` lacks nothing but the address of its Runtime API and its plan of faults.
    pub(super) async fn start(mut command: Command, plan: String) -> io::Result<Self> {
        let (work, waiting) = mpsc::channel(1);
        let api = Arc::new(Api { work: tokio::sync::Mutex::new(waiting), current: Mutex::new(None) });
        let server = http::serve(move |call| answer(Arc::clone(&api), call)).await?;
        command.env("AWS_LAMBDA_RUNTIME_API", server.address.to_string());
        if !plan.is_empty() {
            command.env("SWITCHYARD_FAULTS", &plan);
        }
        let process = Guarded::spawn(&mut command)?;
        let group = Pid::from_raw(i32::try_from(process.pid()).unwrap_or(i32::MAX));
        Ok(Self { process: Mutex::new(process), group, plan, killed: AtomicBool::new(false), work, _api: server })
    }

    /// Whether the process still runs.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.process.lock().unwrap_or_else(PoisonError::into_inner).ended(), Ok(None))
    }

    /// Sends a signal to the process and its guard. `false` where it had ended already.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        if !self.is_alive() {
            return false;
        }
        if signal == Signal::SIGKILL {
            self.killed.store(true, Ordering::Relaxed);
        }
        killpg(self.group, signal).is_ok()
    }

    /// Whether it was killed from outside: then its plan had no part in its end.
    pub(super) fn was_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// The faults that it was to carry out on itself.
    pub(super) fn plan(&self) -> &str {
        &self.plan
    }

    /// Whether the process is stopped just now, by a signal or by its own plan.
    pub(super) fn is_stopped(&self) -> bool {
        let guard = self.group.as_raw();
        let children = fs::read_to_string(format!("/proc/{guard}/task/{guard}/children")).unwrap_or_default();
        children.split_whitespace().any(|pid| {
            // The state follows the name, which stands in parentheses and may hold any character.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
        })
    }

    /// Has it work on one invocation, and kills it at the deadline.
    pub(super) async fn invoke(&self, payload: Bytes, timeout: Duration) -> Ended {
        let (answer, mut answered) = oneshot::channel();
        let id = uuid::Uuid::new_v4().to_string();
        let invocation = Invocation { id, deadline: SystemTime::now() + timeout, payload, answer };
        let deadline = Instant::now() + timeout;
        if self.work.send(invocation).await.is_err() {
            return Ended::Died;
        }
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                said = &mut answered => return match said {
                    Ok(Some(body)) => Ended::Answered(body),
                    Ok(None) => Ended::Failed,
                    Err(_) => Ended::Died,
                },
                _ = look.tick() => if !self.is_alive() {
                    return Ended::Died;
                },
                () = sleep_until(deadline) => {
                    self.signal(Signal::SIGKILL);
                    return Ended::TimedOut;
                }
            }
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // At once: there is nothing that it should still finish, and a stopped one would not.
        self.signal(Signal::SIGKILL);
    }
}

async fn answer(api: Arc<Api>, call: Call) -> Result<Answer, Cut> {
    let path = call.uri().path();
    if call.method() == Method::GET && path.ends_with("/invocation/next") {
        let invocation = api.work.lock().await.recv().await.ok_or(Cut)?;
        let mut answer = http::answer(StatusCode::OK, "application/json", invocation.payload);
        let deadline = invocation.deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        for (name, value) in [
            ("lambda-runtime-aws-request-id", invocation.id.clone()),
            ("lambda-runtime-deadline-ms", deadline.to_string()),
            ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:function".into()),
        ] {
            answer.headers_mut().insert(name, HeaderValue::from_str(&value).map_err(|_| Cut)?);
        }
        *api.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((invocation.id, invocation.answer));
        return Ok(answer);
    }
    let current = api.current.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((id, said)) = current {
        let _ = said.send((path.ends_with("/response") && path.contains(&id)).then(|| call.into_body()));
    }
    Ok(http::answer(StatusCode::ACCEPTED, "application/json", "{}"))
}
