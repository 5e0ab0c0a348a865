//! The steward's settings, from the environment.

use switchyard_runtime::{ConfigError, Environment};

/// How much one pass may do.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many deliveries of an agent a pass sends again.
    pub resends: usize,
    /// How many messages of a dead-letter queue a pass inspects.
    pub dead_letters: usize,
}

impl Limits {
    /// A thousand deliveries heal a lost queue of 60,000 within an hour and are 100 calls to SQS, some seconds; five hundred dead letters are 50 calls, in
    /// passes in which there is something new to see.
    pub const DEFAULT: Self = Self { resends: 1_000, dead_letters: 500 };
}

pub(crate) struct Settings {
    pub(crate) stack: String,
    pub(crate) limits: Limits,
}

impl Settings {
    /// Reads `STACK_NAME`, `RESENDS_PER_PASS` (1,000) and `DEAD_LETTERS_PER_PASS` (500).
    pub(crate) fn read(environment: Environment) -> Result<Self, ConfigError> {
        let limits = Limits {
            resends: environment.or("RESENDS_PER_PASS", Limits::DEFAULT.resends, "a whole number")?,
            dead_letters: environment.or("DEAD_LETTERS_PER_PASS", Limits::DEFAULT.dead_letters, "a whole number")?,
        };
        Ok(Self { stack: environment.required("STACK_NAME", "the stack whose agents it reconciles")?, limits })
    }
}
