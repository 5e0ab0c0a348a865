//! The errors of the store, by what the caller should do.

use std::error::Error;

use tokio_postgres::error::SqlState;

/// An error of the store, by what the caller should do. The text names the operation and never SQL or a value. The cause is the source, and the text
/// includes it only where it can hold no value (a failed connection).
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, is shutting down or full, or did not answer in time. The batch did not cause it, so it costs no attempt.
    #[error("the database is unavailable ({operation}): {source}")]
    Unavailable {
        /// What was being done.
        operation: &'static str,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another transaction was in the way (deadlock, serialisation, lock timeout, a partition that was just dropped).
    /// The same again, at once, is right.
    #[error("another transaction was in the way ({operation})")]
    Conflict {
        /// What was being done.
        operation: &'static str,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database refused the caller's data: it breaks a constraint, or a value is invalid.
    #[error("the database refused the data ({operation}, {code})")]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// SQLSTATE of class 22 or 23, or our SY005: an id exists with other content.
        code: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A setting is wrong: DATABASE_URL, a privilege, an agent that was never registered. An operator must act.
    #[error("{problem}")]
    Config {
        /// What is wrong, for the operator.
        problem: String,
        /// The cause, where there is one.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// A mistake in a program: invalid SQL, or a transaction that is used after one of its statements has failed.
    #[error("a mistake in the program ({operation}): {problem}")]
    Bug {
        /// What was being done.
        operation: &'static str,
        /// The database's one-line message, or ours.
        problem: String,
        /// The cause, where there is one.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl StoreError {
    /// Whether a later try may succeed without a change by an operator.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether trying again at once is right.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// Whether an event's id exists in the table with other content than the caller's.
    pub fn is_forged(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "SY005")
    }

    pub(crate) fn config(problem: impl Into<String>) -> Self {
        Self::Config { problem: problem.into(), source: None }
    }

    pub(crate) fn bug(operation: &'static str, problem: impl Into<String>) -> Self {
        Self::Bug { operation, problem: problem.into(), source: None }
    }

    pub(crate) fn unavailable(operation: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable { operation, source: source.into() }
    }

    /// Sorts a database error by its SQLSTATE.
    pub(crate) fn from_postgres(operation: &'static str, error: tokio_postgres::Error) -> Self {
        Self::sorted(operation, Sort::of(&error), Box::new(error))
    }

    fn sorted(operation: &'static str, sort: Sort, source: Box<dyn Error + Send + Sync>) -> Self {
        match sort {
            Sort::Unavailable => Self::Unavailable { operation, source },
            Sort::Conflict => Self::Conflict { operation, source },
            Sort::Refused(code) => Self::Refused { operation, code, source },
            Sort::Config(problem) => Self::Config { problem, source: Some(source) },
            Sort::Bug(problem) => Self::Bug { operation, problem, source: Some(source) },
        }
    }

    /// While connecting, only the URL can be wrong.
    pub(crate) fn from_connecting(error: tokio_postgres::Error) -> Self {
        match Self::from_postgres("connecting", error) {
            Self::Bug { operation, source: Some(source), .. } => Self::Unavailable { operation, source },
            other => other,
        }
    }

    pub(crate) fn from_pool(error: deadpool_postgres::PoolError) -> Self {
        use deadpool_postgres::PoolError;
        match error {
            PoolError::Backend(e) => Self::from_connecting(e),
            other => Self::unavailable("taking a connection", other),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Sort {
    Unavailable,
    Conflict,
    Refused(String),
    Config(String),
    Bug(String),
}

impl Sort {
    fn of(error: &tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            // No answer of the server at all, unless a value did not fit its Rust type.
            return if error.is_closed() || has_io_source(error) {
                Self::Unavailable
            } else {
                Self::Bug(error.to_string())
            };
        };
        let message = db.message().to_owned();
        let partition_gone =
            *db.code() == SqlState::CHECK_VIOLATION && db.constraint().is_none() && db.table() == Some("delivery");
        Self::of_code(db.code().code(), db.routine(), partition_gone, message)
    }

    /// By the code, and by the routine in Postgres's source that raised it.
    fn of_code(code: &str, routine: Option<&str>, partition_gone: bool, message: String) -> Self {
        match code {
            "40001" | "40P01" | "55P03" => Self::Conflict,
            // An internal error can be anything, corruption too; but from there it says that a partition was dropped while the statement
            // waited for its lock.
            "XX000" if routine == Some("relation_open") => Self::Conflict,
            // Postgres names the routine that raises an error. One without is a pooler's: no connection of its own to give, or one that was lost.
            "XX000" if routine.is_none() => Self::Unavailable,
            _ if partition_gone => Self::Conflict,
            // An event with this id exists with other content.
            "SY005" => Self::Refused(code.to_owned()),
            // An unknown database, a missing privilege, and our own refusals.
            "3D000" | "42501" | "SY001" | "SY002" | "SY004" => Self::Config(message),
            // Cancelled (a statement timeout), read-only (a standby after a failover), idle for too long.
            "57014" | "25006" | "25P03" => Self::Unavailable,
            code => match &code[..2] {
                "08" | "53" | "57" | "58" => Self::Unavailable,
                "22" | "23" => Self::Refused(code.to_owned()),
                "28" => Self::Config(message),
                _ => Self::Bug(message),
            },
        }
    }
}

fn has_io_source(error: &tokio_postgres::Error) -> bool {
    let mut source = error.source();
    while let Some(e) = source {
        if e.is::<std::io::Error>() {
            return true;
        }
        source = e.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::Sort;

    #[test]
    fn an_internal_error_that_postgres_did_not_raise_is_a_pooler_without_a_connection() {
        let of = |routine| Sort::of_code("XX000", routine, false, "no process".into());
        assert_eq!(of(None), Sort::Unavailable);
        assert_eq!(of(Some("relation_open")), Sort::Conflict);
        assert_eq!(of(Some("exec_stmt_raise")), Sort::Bug("no process".into()));
    }
}
