//! What can go wrong with the store, by what to do about it.

use std::error::Error;

use tokio_postgres::error::SqlState;

/// What went wrong, told apart by what the caller should do. The text names the operation, never SQL or a value; the
/// cause is kept as the source, and told where it can hold no value (a connection that fails).
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, is shutting down or full, or did not answer in time. Nobody's fault in the batch:
    /// costs no attempt.
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
    /// The database refused the caller's data: a constraint, or a value that is none.
    #[error("the database refused the data ({operation}, {code})")]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// SQLSTATE of class 22 or 23.
        code: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A setting is wrong: DATABASE_URL, a privilege, an agent that was never registered. People must act.
    #[error("{problem}")]
    Config {
        /// What is wrong, for the operator.
        problem: String,
        /// The cause, where there is one.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// A mistake in a program: SQL that is none, a transaction used after a statement of it had failed.
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
    /// Whether trying later may help without anybody having done anything wrong.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether trying again at once is right.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
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

    /// While connecting nothing of ours can be wrong but the URL.
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
