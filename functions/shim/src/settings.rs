//! What the shim is told by its environment.

use crate::signature::Secrets;
use std::time::Duration;
use switchyard_bus::aws::CALL_TIMEOUT;
use switchyard_runtime::{ConfigError, Environment};
use switchyard_store::StoreError;
use thiserror::Error;

/// Why the shim cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database's connection string is wrong.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The shim's settings. Durations end in their unit where they stand in the environment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The topic.
    pub topic_arn: String,
    /// How long one invocation stays; zero drains once and leaves.
    pub resident: Duration,
    /// How many calls are on their way at the same time.
    pub lanes: usize,
    /// How many connections to the database it may open.
    pub connections: usize,
    /// How many shims share the work at once. The newest stay, so that with one each invocation replaces the one before.
    pub shims: u16,
    /// How its lease is timed.
    pub times: Times,
}

/// How the lease is timed. Not for the environment: they hang together.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// How long it lasts without a renewal: how long a shim that died keeps the others waiting.
    pub lease: Duration,
    /// How often it is renewed by one that is alone; by one that shares, three times as often.
    pub renew: Duration,
    /// How often one asks that has less than its fair share.
    pub ask: Duration,
    /// How long a call to the topic may take; none is started that the lease does not outlast.
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
    /// over without a gap), `LANES` (16), `SHIMS` (1) and `DATABASE_CONNECTIONS` (2).
    ///
    /// # Errors
    /// [`ConfigError`], naming the variable.
    pub fn read(environment: Environment) -> Result<Self, ConfigError> {
        Ok(Self {
            topic_arn: environment.required("TOPIC_ARN", "the ARN of the topic that events are published to")?,
            resident: Duration::from_secs(environment.or("RESIDENT_SECONDS", 75, "a whole number of seconds")?),
            lanes: environment.or("LANES", 16, "a whole number")?,
            connections: environment.or("DATABASE_CONNECTIONS", 2, "a whole number")?,
            shims: environment.or("SHIMS", 1, "a whole number")?,
            times: Times::default(),
        })
    }
}

/// What a webhook may be signed with, from `WEBHOOK_SECRETS`; `None` where there is none, and then no webhook is listened to.
///
/// # Errors
/// [`ConfigError`], naming the variable and never its value.
pub(crate) fn webhook_secrets(environment: Environment) -> Result<Option<Secrets>, ConfigError> {
    const NAME: &str = "WEBHOOK_SECRETS";
    let text: String = environment.or(NAME, String::new(), "text")?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    match Secrets::parse(&text) {
        Some(secrets) => Ok(Some(secrets)),
        None => Err(ConfigError::Invalid { name: NAME, expected: Secrets::EXPECTED.to_owned() }),
    }
}
