//! What the steward is told by its environment.

use switchyard_runtime::{ConfigError, Environment};

/// How much one pass may do.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many deliveries of an agent go out again in a pass.
    pub resends: usize,
    /// How many letters of a dead-letter queue are looked at in a pass.
    pub letters: usize,
}

impl Limits {
    /// A thousand deliveries heal a lost queue of 60,000 within an hour and are 100 calls to SQS, some seconds; five hundred letters are 50 calls, in
    /// passes in which there is something new to see.
    pub const DEFAULT: Self = Self { resends: 1_000, letters: 500 };
}

pub(crate) struct Settings {
    pub(crate) stack: String,
    pub(crate) limits: Limits,
    pub(crate) connections: usize,
}

impl Settings {
    /// Reads `STACK_NAME`, `RESENDS_PER_PASS` (1,000), `LETTERS_PER_PASS` (500) and `DATABASE_CONNECTIONS` (2).
    pub(crate) fn read(environment: Environment) -> Result<Self, ConfigError> {
        let limits = Limits {
            resends: environment.or("RESENDS_PER_PASS", Limits::DEFAULT.resends, "a whole number")?,
            letters: environment.or("LETTERS_PER_PASS", Limits::DEFAULT.letters, "a whole number")?,
        };
        Ok(Self {
            stack: environment.required("STACK_NAME", "the stack whose agents it looks after")?,
            limits,
            connections: environment.or("DATABASE_CONNECTIONS", 2, "a whole number")?,
        })
    }
}
