//! Ctrl-C and SIGTERM.
//!
//! The handler is installed before anything is started. While the system is being set up, blocking work goes on in threads; the main
//! thread waits, stops what has been started so far, and leaves. What a thread was about to start at that moment ends with
//! this process, since every child is guarded.

use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use switchyard_localstack::Error;
use tokio::signal::unix::{SignalKind, signal};

/// What a shell reports for a program that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Whether a signal to stop has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicU32>);

impl Stop {
    /// True from the first signal on.
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP do not end the process but raise the flag and call `on_signal`. The third signal ends the
/// process at once, and its children after it.
///
/// Handlers, not a blocked signal mask: a mask would be inherited by every child.
pub(crate) fn catch(on_signal: impl Fn() + Send + 'static) -> Result<Stop, Error> {
    let runtime = crate::runtime()?;
    let failed = |source| Error::Program {
        program: "the signal handler".to_owned(),
        source,
        way_out: "this system does not allow it",
    };
    let (mut interrupt, mut terminate, mut hangup) = {
        let _inside = runtime.enter();
        let on = |kind| signal(kind).map_err(failed);
        (on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?)
    };
    let stop = Stop::default();
    let count = stop.0.clone();
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if count.fetch_add(1, Ordering::SeqCst) >= 2 {
                    exit(i32::from(INTERRUPTED));
                }
                on_signal();
            }
        });
    });
    Ok(stop)
}
