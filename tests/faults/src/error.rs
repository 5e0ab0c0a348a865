//! What keeps the suite itself from going on. What it finds is no error: that is its report.

use std::io;
use switchyard_store::StoreError;

/// The suite could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The local servers said no.
    #[error(transparent)]
    Local(#[from] switchyard_localstack::Error),
    /// The store did.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A statement of the suite's own failed.
    #[error("the suite's own database connection: {}", in_full(.0))]
    Database(#[from] tokio_postgres::Error),
    /// A file, a process or a port.
    #[error("{doing}: {source}")]
    System {
        /// What was tried.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// Names what was tried when the system said no.
    pub fn doing(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::System { doing, source }
    }
}

/// The driver keeps the telling part in its source.
fn in_full(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
