//! Which parked deliveries.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}
