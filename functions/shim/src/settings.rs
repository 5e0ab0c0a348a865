//! What the shim is told by its environment.

use std::time::Duration;
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
}

impl Settings {
    /// Reads `TOPIC_ARN`, `RESIDENT_SECONDS` (75, longer than the schedule's minute, so that the next one finds this one still there and takes
    /// over without a gap), `LANES` (16) and `DATABASE_CONNECTIONS` (2).
    ///
    /// # Errors
    /// [`ConfigError`], naming the variable.
    pub fn read(environment: Environment) -> Result<Self, ConfigError> {
        Ok(Self {
            topic_arn: environment.required("TOPIC_ARN", "the ARN of the topic that events are published to")?,
            resident: Duration::from_secs(environment.or("RESIDENT_SECONDS", 75, "a whole number of seconds")?),
            lanes: environment.or("LANES", 16, "a whole number")?,
            connections: environment.or("DATABASE_CONNECTIONS", 2, "a whole number")?,
        })
    }
}
