//! The settings of ingest, from its environment.

use switchyard_runtime::{ConfigError, Environment};

pub(crate) struct Settings {
    pub(crate) queue_url: String,
    pub(crate) dead_letter_url: String,
    /// How many events may stand between one and the first of its chain: what agents allow, too.
    pub(crate) max_hops: u32,
}

impl Settings {
    /// Reads `QUEUE_URL`, `DEAD_LETTER_URL` and `MAX_HOPS` (16).
    pub(crate) fn read(environment: Environment) -> Result<Self, ConfigError> {
        Ok(Self {
            queue_url: environment.required("QUEUE_URL", "the URL of the queue behind the ingress topic")?,
            dead_letter_url: environment.required("DEAD_LETTER_URL", "the URL of its dead-letter queue")?,
            max_hops: environment.or("MAX_HOPS", 16, "a whole number")?,
        })
    }
}
