//! The build that can break: the plan is read once, and carried out on this very process.

use std::{
    io::Write as _,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use nix::{sys::signal, unistd};

use crate::plan::{Action, Plan};

static BUGS: LazyLock<Vec<String>> = LazyLock::new(|| plan().bugs);
static PLAN: LazyLock<Mutex<Plan>> = LazyLock::new(|| Mutex::new(plan()));

/// A place where the plan in `SWITCHYARD_FAULTS` may kill, stop or delay this process. Blocks the thread while it is delayed.
pub fn point(name: &str) {
    let action = PLAN.lock().unwrap_or_else(PoisonError::into_inner).pass(name);
    match action {
        None => {}
        Some(Action::Kill) => raise(signal::Signal::SIGKILL),
        Some(Action::Stop) => raise(signal::Signal::SIGSTOP),
        Some(Action::Delay(delay)) => std::thread::sleep(delay),
    }
}

/// Whether the plan in `SWITCHYARD_FAULTS` has switched this mistake on.
#[must_use]
pub fn bug(name: &str) -> bool {
    BUGS.iter().any(|bug| bug == name)
}

/// To the process, not to the thread: a stop must stop all of it. A process may always signal itself, and returns from here only when it has
/// been continued, since a kill is not survived.
fn raise(signal: signal::Signal) {
    if signal::kill(unistd::Pid::this(), signal).is_ok() && signal == signal::Signal::SIGKILL {
        // The signal may reach the process a moment after the call has returned, and the step after the point must not be taken.
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn plan() -> Plan {
    let text = std::env::var("SWITCHYARD_FAULTS").unwrap_or_default();
    Plan::parse(&text).unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "{error}");
        std::process::exit(2)
    })
}
