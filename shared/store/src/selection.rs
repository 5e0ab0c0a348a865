//! Which parked deliveries.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::claim::clean;

/// Which parked deliveries: everything, unless narrowed. Conditions of different kinds must all hold; of one kind, one must.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// These events.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Uuid>,
    /// Of these types, such as `feedback.created`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Parked for these reasons, such as `attempts_used_up`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Of these projects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<String>,
    /// Parked at this time or later: RFC 3339 with an offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Parked before this time: RFC 3339 with an offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Not more than so many, those of the lowest sequences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<i64>,
}

impl Selection {
    /// Whether it names nothing in particular, so that all that is parked is meant.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// The selection as its SQL wants it.
    pub(crate) fn columns(&self) -> Columns {
        let cleaned = |texts: &[String]| texts.iter().map(|t| clean(t).into_owned()).collect();
        Columns {
            events: self.events.clone(),
            types: cleaned(&self.types),
            reasons: cleaned(&self.reasons),
            projects: cleaned(&self.projects),
            since: self.since.as_deref().map(|t| clean(t).into_owned()),
            until: self.until.as_deref().map(|t| clean(t).into_owned()),
            at_most: self.at_most,
        }
    }
}

/// A `switchyard.selection` of the parameters $2 to $8.
pub(crate) const SQL: &str = "row($2::uuid[], $3::text[], $4::text[], $5::text[], switchyard.time_given('since', $6),
    switchyard.time_given('until', $7), $8::bigint)::switchyard.selection";

/// One value for each field, so that it can be bound; text is without NUL.
pub(crate) struct Columns {
    events: Vec<Uuid>,
    types: Vec<String>,
    reasons: Vec<String>,
    projects: Vec<String>,
    since: Option<String>,
    until: Option<String>,
    /// Set lower where a selection is worked off in steps.
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
