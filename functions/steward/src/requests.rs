//! What the steward can be asked: the JSON of an invocation as a request.

use serde_json::{Map, Value};
use switchyard_store::BreakerState;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A pass now: what the schedule asks for, and an invocation with nothing to say.
    Pass,
    /// How everything stands. Changes nothing.
    Status,
    /// Sets an agent's breaker by hand, or sets it free.
    Breaker {
        /// Whose.
        agent: String,
        /// What it is to be; `None` sets it free.
        set: Option<BreakerState>,
        /// Who asks, for the audit.
        operator: String,
    },
}

/// What there is to ask, for whoever asked for something else.
const THERE_IS: &str = r#"there is {"action":"pass"}, {"action":"status"} and {"action":"breaker","agent":NAME,"set":"open"|"closed"|"auto","operator":WHO}"#;

impl Request {
    /// Reads the event of an invocation. The schedule's (it has a `source` of AWS's) and an empty one ask for a pass.
    ///
    /// # Errors
    /// One line that names what is wrong and what there is instead.
    pub fn of(event: &Value) -> Result<Self, String> {
        let nothing = Map::new();
        let fields = match event {
            Value::Null => &nothing,
            Value::Object(fields) => fields,
            _ => return Err(format!("a request is a JSON object: {THERE_IS}")),
        };
        let scheduled = fields.get("source").and_then(Value::as_str).is_some_and(|source| source.starts_with("aws."));
        let action = match fields.get("action") {
            None if fields.is_empty() || scheduled => return Ok(Self::Pass),
            action => action.and_then(Value::as_str).unwrap_or_default(),
        };
        match action {
            "pass" => only(fields, &[]).map(|()| Self::Pass),
            "status" => only(fields, &[]).map(|()| Self::Status),
            "breaker" => Self::breaker(fields),
            other => Err(format!("there is no action {:?}: {THERE_IS}", cut(other))),
        }
    }

    fn breaker(fields: &Map<String, Value>) -> Result<Self, String> {
        only(fields, &["agent", "set", "operator"])?;
        let text = |name: &str| {
            let value = fields.get(name).and_then(Value::as_str).filter(|value| !value.is_empty());
            value.ok_or_else(|| format!("{name:?} is missing or no text: {THERE_IS}"))
        };
        let set = match text("set")? {
            "open" => Some(BreakerState::Open),
            "closed" => Some(BreakerState::Closed),
            "auto" => None,
            other => return Err(format!("a breaker cannot be set to {:?}: {THERE_IS}", cut(other))),
        };
        Ok(Self::Breaker { agent: text("agent")?.to_owned(), set, operator: text("operator")?.to_owned() })
    }
}

/// As much of it as an answer repeats: whoever asked knows the rest.
fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

/// A field that does nothing is a mistake that would go unseen.
fn only(fields: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match fields.keys().find(|name| *name != "action" && !known.contains(&name.as_str())) {
        Some(unknown) => Err(format!("there is no field {:?}: {THERE_IS}", cut(unknown))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_schedule_and_an_invocation_with_nothing_to_say_ask_for_a_pass() {
        let scheduled =
            json!({ "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}, "version": "0" });
        for event in [scheduled, json!({}), Value::Null, json!({ "action": "pass" })] {
            assert_eq!(Request::of(&event), Ok(Request::Pass), "{event}");
        }
    }

    #[test]
    fn a_breaker_is_opened_closed_or_set_free_by_somebody_with_a_name() {
        let asked = |set: &str| {
            Request::of(&json!({ "action": "breaker", "agent": "duplicate", "set": set, "operator": "ada" }))
        };
        let breaker = |set| Ok(Request::Breaker { agent: "duplicate".into(), set, operator: "ada".into() });
        assert_eq!(asked("open"), breaker(Some(BreakerState::Open)));
        assert_eq!(asked("closed"), breaker(Some(BreakerState::Closed)));
        assert_eq!(asked("auto"), breaker(None));
    }

    #[test]
    fn what_is_not_understood_is_answered_with_what_there_is() {
        for (event, names) in [
            (json!([]), "object"),
            (json!({ "action": "dance" }), "dance"),
            (json!({ "action": 7 }), "\"\""),
            (json!({ "agent": "duplicate" }), "\"\""),
            (json!({ "action": "status", "agnet": "x" }), "agnet"),
            (json!({ "action": "breaker", "agent": "duplicate", "set": "ajar", "operator": "ada" }), "ajar"),
            (json!({ "action": "breaker", "agent": "duplicate", "set": "open" }), "operator"),
            (json!({ "action": "breaker", "agent": "", "set": "open", "operator": "ada" }), "agent"),
        ] {
            let error = Request::of(&event).unwrap_err();
            assert!(error.contains(names) && error.contains("status"), "{event}: {error}");
        }
    }
}
