//! What a row holds, and what a parameter may hold.

use std::borrow::Cow;

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::StoreError;

/// The only row of an answer.
pub(crate) fn only(operation: &'static str, rows: Vec<Row>) -> Result<Row, StoreError> {
    rows.into_iter().next().ok_or_else(|| StoreError::bug(operation, "no row came back"))
}

/// Returns a column, or an error of the operation if its type is not `T`.
pub(crate) fn get<'r, T: FromSql<'r>>(operation: &'static str, row: &'r Row, column: usize) -> Result<T, StoreError> {
    row.try_get(column).map_err(|e| StoreError::from_postgres(operation, e))
}

/// A column that holds a word of an enum; `named` finds the variant.
pub(crate) fn word<T>(
    operation: &'static str,
    row: &Row,
    column: usize,
    named: impl Fn(&str) -> Option<T>,
) -> Result<T, StoreError> {
    known(operation, named(get(operation, row, column)?))
}

/// Returns the variant of a word that the database knows, or an error if this version of the program does not know it.
pub(crate) fn known<T>(operation: &'static str, variant: Option<T>) -> Result<T, StoreError> {
    variant.ok_or_else(|| StoreError::bug(operation, "an unknown word: the schema is newer than this program"))
}

/// Attempts are small and never negative.
pub(crate) fn count(n: i16) -> u16 {
    n.unsigned_abs()
}

/// Text as Postgres can hold it: without NUL.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}
