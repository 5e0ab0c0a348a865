//! Data that is compiled in, read.

use serde::de::DeserializeOwned;
use thiserror::Error;

/// A data file is not what it should be: the program was built from it, so only a new build mends it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{file}: {problem}")]
pub struct DataError {
    /// The file, as it is called in the repository.
    pub file: &'static str,
    /// What is wrong, and where.
    pub problem: String,
}

impl DataError {
    pub(crate) fn new(file: &'static str, problem: impl Into<String>) -> Self {
        Self { file, problem: problem.into() }
    }
}

pub(crate) fn read<T: DeserializeOwned>(file: &'static str, text: &str) -> Result<T, DataError> {
    toml::from_str(text).map_err(|error| DataError::new(file, error.to_string()))
}
