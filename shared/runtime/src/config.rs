//! Configuration: read once, at start, into typed fields. Nothing missing is silently replaced.

use std::{env, str::FromStr};
use switchyard_store::{DatabaseUrl, StoreError};
use thiserror::Error;

/// A setting that is missing or wrong. Names the variable, never its value.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The variable is not set or empty.
    #[error("{0} is not set: {1}")]
    Missing(&'static str, &'static str),
    /// The variable's value is of another kind.
    #[error("{name} is not {expected}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What it should be, in words.
        expected: String,
    },
    /// The database's address is none.
    #[error(transparent)]
    Database(#[from] StoreError),
}

/// The process's environment; the one place that reads it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Environment;

impl Environment {
    /// A setting that must be there. `what` is what it is for.
    ///
    /// # Errors
    /// [`ConfigError::Missing`].
    pub fn required(self, name: &'static str, what: &'static str) -> Result<String, ConfigError> {
        env::var(name).ok().filter(|value| !value.is_empty()).ok_or(ConfigError::Missing(name, what))
    }

    /// The database of a program that has no secret: `DATABASE_URL`.
    pub(crate) fn database(self) -> Result<DatabaseUrl, ConfigError> {
        let url = self
            .required("DATABASE_URL", "the connection string of the database, unless DATABASE_SECRET names a secret")?;
        Ok(self.trusting(url.parse()?))
    }

    /// The same URL with `DATABASE_CA`, where the database's certificate comes from its provider's own authority.
    pub(crate) fn trusting(self, url: DatabaseUrl) -> DatabaseUrl {
        match self.required("DATABASE_CA", "a certificate in PEM") {
            Ok(pem) => url.trusting(pem),
            Err(_) => url,
        }
    }

    /// A setting with a default.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if it is set to something else than `expected`.
    pub fn or<T: FromStr>(self, name: &'static str, default: T, expected: &str) -> Result<T, ConfigError> {
        match env::var(name).ok().filter(|value| !value.is_empty()) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| ConfigError::Invalid { name, expected: expected.to_owned() }),
        }
    }
}
