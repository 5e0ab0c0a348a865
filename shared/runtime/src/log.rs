//! Logs: JSON lines in Lambda, with the same few fields everywhere (`event.id`, `event.type`, `agent`, `attempt`); never a payload.

use tracing_subscriber::EnvFilter;

/// Starts logging to standard output, where Lambda collects it. `SWITCHYARD_LOG` sets the level, `info` otherwise.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("SWITCHYARD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_current_span(false).with_target(false);
    // A second start in one process keeps the first one's settings.
    let _ = subscriber.with_env_filter(filter).try_init();
}
