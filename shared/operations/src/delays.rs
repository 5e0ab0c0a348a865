//! Events that wait for their time (`deliver_at`): `{"action":"delays", ...}`.

use crate::check::{is_name, typed};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

const DELAYS: &str = r#"events that wait are shown by {"action":"delays","types":[TYPE,...],"projects":[ID,...],"aggregates":[ID,...],"at_most":N} (all without filters, 100 without at_most, at most 1,000), and cancelled by {"action":"delays","cancel":[EVENT_ID,...],"because":TEXT,"operator":WHO} (at most 100 at a time)"#;

/// How many are shown unless it is said, and at most.
const SHOWN: i64 = 100;
const MOST_SHOWN: i64 = 1_000;
/// How many are cancelled in one transaction: each holds its deliveries until the end of it.
const MOST_CANCELLED: usize = 100;

/// A look at what waits, or its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum DelaysRequest {
    /// What waits, the next first.
    Show {
        /// Which of it.
        #[serde(flatten)]
        which: Delays,
        /// How many at most.
        at_most: i64,
    },
    /// These are not to be delivered.
    Cancel {
        /// Which events.
        #[serde(rename = "cancel")]
        events: Vec<Uuid>,
        /// Why, for the audit.
        because: String,
        /// Who asks, for the audit.
        operator: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelFields {
    cancel: Vec<Uuid>,
    #[serde(default)]
    because: String,
    #[serde(default)]
    operator: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShowFields {
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    projects: Vec<String>,
    #[serde(default)]
    aggregates: Vec<String>,
    at_most: Option<i64>,
}

impl DelaysRequest {
    /// Reads it from the fields of an invocation.
    ///
    /// # Errors
    /// One line that names what is wrong and what there is instead.
    pub fn of(fields: &Map<String, Value>) -> Result<Self, String> {
        let read = if fields.contains_key("cancel") { Self::cancel(fields) } else { Self::show(fields) };
        read.map_err(|wrong| format!("{wrong}: {DELAYS}"))
    }

    fn show(fields: &Map<String, Value>) -> Result<Self, String> {
        let ShowFields { types, projects, aggregates, at_most } = typed(fields)?;
        let at_most = at_most.unwrap_or(SHOWN);
        if !(1..=MOST_SHOWN).contains(&at_most) {
            return Err(format!("\"at_most\" is not between 1 and {MOST_SHOWN}"));
        }
        Ok(Self::Show { which: Delays { types, projects, aggregates }, at_most })
    }

    fn cancel(fields: &Map<String, Value>) -> Result<Self, String> {
        let CancelFields { cancel: events, because, operator } = typed(fields)?;
        if events.is_empty() || events.len() > MOST_CANCELLED {
            return Err(format!("\"cancel\" names no event, or more than {MOST_CANCELLED}"));
        }
        // It cannot be taken back, so the audit has a reason.
        is_name("because", &because)?;
        is_name("operator", &operator)?;
        Ok(Self::Cancel { events, because, operator })
    }
}

/// An event whose time (`deliver_at` of its metadata) has not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delayed {
    /// Its place in the event log.
    pub seq: i64,
    /// The event.
    pub event_id: Uuid,
    /// Such as `feedback.created`.
    pub event_type: String,
    /// Empty where the table has none.
    pub aggregate_id: String,
    /// The project of its metadata or payload.
    pub project_id: Option<String>,
    /// When it is to be published: RFC 3339, in UTC.
    pub due_at: String,
    /// Since when it waits: RFC 3339, in UTC.
    pub logged_at: String,
}

/// Which of them: all, unless narrowed. Conditions of different kinds must all hold; of one kind, one must.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delays {
    /// Of these types.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Of these projects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<String>,
    /// Of these aggregates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aggregates: Vec<String>,
}

/// What became of one that was to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancellation {
    /// It stays in its table, and no agent gets it.
    Cancelled,
    /// It was cancelled before.
    AlreadyCancelled,
    /// No logged event has this id.
    Unknown,
    /// It never had to wait.
    NotDelayed,
    /// Its time has come: it is published, or about to be.
    Due,
    /// The old system has worked on it before its time, or it was parked: cancelling it would undo nothing.
    Taken,
}

crate::words!(Cancellation {
    Cancelled = "cancelled",
    AlreadyCancelled = "already_cancelled",
    Unknown = "unknown",
    NotDelayed = "not_delayed",
    Due = "due",
    Taken = "taken",
});

/// To `delays`: what waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The next first, as many as were asked for.
    pub waiting: Vec<Delayed>,
    /// How many wait in all, whatever was asked for.
    pub in_all: i64,
}

/// To `delays` with `cancel`: what became of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// In the order of the log, each event once.
    pub events: Vec<Became>,
}

/// An event that was to be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Became {
    /// The event.
    pub event_id: Uuid,
    /// What became of it.
    pub became: Cancellation,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(request: &Value) -> Result<DelaysRequest, String> {
        DelaysRequest::of(request.as_object().unwrap())
    }

    #[test]
    fn what_waits_is_shown_all_of_it_or_what_is_asked_for() {
        let all = DelaysRequest::Show { which: Delays::default(), at_most: 100 };
        assert_eq!(of(&json!({ "action": "delays" })), Ok(all));
        let which = Delays { types: vec!["a.b".into()], projects: vec!["p".into()], aggregates: vec!["x".into()] };
        let some =
            json!({ "action": "delays", "types": ["a.b"], "projects": ["p"], "aggregates": ["x"], "at_most": 5 });
        assert_eq!(of(&some), Ok(DelaysRequest::Show { which, at_most: 5 }));
    }

    #[test]
    fn a_cancellation_of_events_needs_an_operator_and_a_reason() {
        let asked =
            json!({ "action": "delays", "cancel": [Uuid::nil()], "because": "sent by mistake", "operator": "ada" });
        let (because, operator) = ("sent by mistake".to_owned(), "ada".to_owned());
        assert_eq!(of(&asked), Ok(DelaysRequest::Cancel { events: vec![Uuid::nil()], because, operator }));
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        let id = Uuid::nil();
        for (request, words) in [
            (json!({ "at_most": 0 }), "at_most"),
            (json!({ "at_most": 1001 }), "at_most"),
            (json!({ "types": "a.b" }), "a sequence"),
            (json!({ "typs": [] }), "typs"),
            (json!({ "cancel": [], "because": "x", "operator": "ada" }), "names no event"),
            (json!({ "cancel": vec![id; 101], "because": "x", "operator": "ada" }), "more than 100"),
            (json!({ "cancel": ["7"], "because": "x", "operator": "ada" }), "UUID"),
            (json!({ "cancel": [id], "operator": "ada" }), "because"),
            (json!({ "cancel": [id], "because": "x" }), "operator"),
            (json!({ "cancel": [id], "because": "x", "operator": "ada", "types": ["a.b"] }), "types"),
        ] {
            let error = of(&request).unwrap_err();
            assert!(error.contains(words) && error.contains("\"action\":\"delays\""), "{request}: {error}");
        }
    }
}
