//! Selections of parked deliveries.

use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::Selection;
use crate::row::clean;

/// A selection as its SQL wants it.
pub(crate) fn columns(selection: &Selection) -> Columns {
    let cleaned = |texts: &[String]| texts.iter().map(|t| clean(t).into_owned()).collect();
    Columns {
        events: selection.events.clone(),
        types: cleaned(&selection.types),
        reasons: cleaned(&selection.reasons),
        projects: cleaned(&selection.projects),
        since: selection.since.as_deref().map(|t| clean(t).into_owned()),
        until: selection.until.as_deref().map(|t| clean(t).into_owned()),
        at_most: selection.at_most,
    }
}

/// A `switchyard.selection` of the parameters $2 to $8.
pub(crate) const SQL: &str = "switchyard.selection_of($2, $3, $4, $5, $6, $7, $8)";

/// One value for each field, so that it can be bound; text is without NUL.
pub(crate) struct Columns {
    events: Vec<Uuid>,
    types: Vec<String>,
    reasons: Vec<String>,
    projects: Vec<String>,
    since: Option<String>,
    until: Option<String>,
    /// Lower for each step of a selection that is worked through in steps.
    pub(crate) at_most: Option<i64>,
}

impl Columns {
    /// The parameters $1 (the agent) to $8.
    pub(crate) fn parameters<'p>(&'p self, agent: &'p &'p str) -> Vec<(&'p (dyn ToSql + Sync), Type)> {
        vec![
            (agent, Type::TEXT),
            (&self.events, Type::UUID_ARRAY),
            (&self.types, Type::TEXT_ARRAY),
            (&self.reasons, Type::TEXT_ARRAY),
            (&self.projects, Type::TEXT_ARRAY),
            (&self.since, Type::TEXT),
            (&self.until, Type::TEXT),
            (&self.at_most, Type::INT8),
        ]
    }
}
