//! What can be asked about events that wait: `{"action":"delays", ...}`.

use crate::requests::is_name;
use serde::Deserialize;
use serde_json::{Map, Value};
use switchyard_store::Delays;
use uuid::Uuid;

const DELAYS: &str = r#"events that wait are shown by {"action":"delays","types":[TYPE,...],"projects":[ID,...],"aggregates":[ID,...],"at_most":N} (all without filters, 100 without at_most, at most 1,000), and cancelled by {"action":"delays","cancel":[EVENT_ID,...],"because":TEXT,"operator":WHO} (at most 100 at a time)"#;

/// How many are shown unless it is said, and at most.
const SHOWN: i64 = 100;
const MOST_SHOWN: i64 = 1_000;
/// How many are cancelled in one transaction: each holds its deliveries until the end of it.
const MOST_CANCELLED: usize = 100;

/// A look at what waits, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DelaysRequest {
    /// What waits, the next first.
    Show {
        /// Which of it.
        which: Delays,
        /// How many at most.
        at_most: i64,
    },
    /// These are not to be delivered.
    Cancel {
        /// Which events.
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
        let mut fields = fields.clone();
        fields.remove("action");
        let read = if fields.contains_key("cancel") { Self::cancel(fields) } else { Self::show(fields) };
        read.map_err(|wrong| format!("{wrong}: {DELAYS}"))
    }

    fn show(fields: Map<String, Value>) -> Result<Self, String> {
        let ShowFields { types, projects, aggregates, at_most } = parsed(fields)?;
        let at_most = at_most.unwrap_or(SHOWN);
        if !(1..=MOST_SHOWN).contains(&at_most) {
            return Err(format!("\"at_most\" is not between 1 and {MOST_SHOWN}"));
        }
        Ok(Self::Show { which: Delays { types, projects, aggregates }, at_most })
    }

    fn cancel(fields: Map<String, Value>) -> Result<Self, String> {
        let CancelFields { cancel: events, because, operator } = parsed(fields)?;
        if events.is_empty() || events.len() > MOST_CANCELLED {
            return Err(format!("\"cancel\" names no event, or more than {MOST_CANCELLED}"));
        }
        // It cannot be taken back, so the audit has a reason.
        is_name("because", &because)?;
        is_name("operator", &operator)?;
        Ok(Self::Cancel { events, because, operator })
    }
}

fn parsed<T: serde::de::DeserializeOwned>(fields: Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
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
    fn events_are_cancelled_by_somebody_with_a_name_for_a_reason() {
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
