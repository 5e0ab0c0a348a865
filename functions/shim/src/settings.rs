//! The shim's settings, from its environment.

use std::time::Duration;
use switchyard_bus::aws::CALL_TIMEOUT;
use switchyard_runtime::{ConfigError, Environment};

/// The shim's settings. A variable that is a duration ends in its unit.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The topic.
    pub topic_arn: String,
    /// How long one invocation stays; zero publishes what is pending once and ends.
    pub resident: Duration,
    /// How many calls to the topic are in flight at the same time.
    pub publish_concurrency: usize,
    /// How many shims share the work at once. The newest stay: with one, each invocation replaces the one before.
    pub shims: u16,
    /// How its lease is timed.
    pub times: Times,
}

/// The times of the lease. They depend on each other, so none is a variable of its own.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// How long it lasts without a renewal: for so long the others wait for the shards of a shim that died.
    pub lease: Duration,
    /// How often a shim renews it that is alone; one that shares renews three times as often.
    pub renew: Duration,
    /// How often a shim asks that has less than its fair share.
    pub ask: Duration,
    /// How long a call to the topic may take; none starts that the lease does not outlast.
    pub call: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(12),
            renew: Duration::from_secs(3),
            ask: Duration::from_millis(200),
            call: CALL_TIMEOUT,
        }
    }
}

impl Settings {
    /// Reads `TOPIC_ARN`, `RESIDENT_SECONDS` (75, longer than the schedule's minute, so that the next one finds this one still there and takes
    /// over without a gap), `PUBLISH_CONCURRENCY` (16) and `SHIMS` (1).
    ///
    /// # Errors
    /// [`ConfigError`], naming the variable.
    pub fn read(environment: Environment) -> Result<Self, ConfigError> {
        Ok(Self {
            topic_arn: environment.required("TOPIC_ARN", "the ARN of the topic that events are published to")?,
            resident: Duration::from_secs(environment.or("RESIDENT_SECONDS", 75, "a whole number of seconds")?),
            publish_concurrency: environment.or("PUBLISH_CONCURRENCY", 16, "a whole number")?,
            shims: environment.or("SHIMS", 1, "a whole number")?,
            times: Times::default(),
        })
    }
}
