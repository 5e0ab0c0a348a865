//! Logs: JSON lines in Lambda, with the same few fields everywhere (`event.id`, `event.type`, `agent`, `attempt`); never a payload.

use tracing_subscriber::EnvFilter;

/// The target of lines that metric filters read: they are written at every level, or a quieter log would switch the alarms off.
pub const FIGURES: &str = "figures";

/// Starts logging to standard output, where Lambda collects it. `SWITCHYARD_LOG` sets the level, `info` otherwise.
pub(crate) fn start() {
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_current_span(false).with_target(false);
    // A second start in one process keeps the first one's settings.
    let _ = subscriber.with_env_filter(filter(std::env::var("SWITCHYARD_LOG").ok().as_deref())).try_init();
}

/// What is logged where this is asked for. What cannot be read is as if nothing were.
fn filter(asked: Option<&str>) -> EnvFilter {
    let filter = asked.and_then(|asked| EnvFilter::try_new(asked).ok()).unwrap_or_else(|| EnvFilter::new("info"));
    // The last directive for a target wins; this one is well-formed, so there is nothing else to go on with.
    match format!("{FIGURES}=info").parse() {
        Ok(always) => filter.add_directive(always),
        Err(_) => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::{Level, enabled, subscriber::with_default};

    #[test]
    fn what_metric_filters_read_is_logged_at_every_level() {
        for asked in [None, Some("error"), Some("off"), Some("figures=off"), Some("no level at all, =")] {
            let subscriber = tracing_subscriber::fmt().with_env_filter(filter(asked)).finish();
            with_default(subscriber, || {
                assert!(enabled!(target: FIGURES, Level::INFO), "{asked:?}");
                assert_eq!(enabled!(Level::INFO), !matches!(asked, Some("error" | "off" | "figures=off")), "{asked:?}");
            });
        }
    }
}
