//! What can be asked about a routing: `{"action":"routing", ...}` and `{"action":"pin", ...}`.

use crate::requests::is_name;
use serde::Deserialize;
use serde_json::{Map, Value};
use switchyard_store::{Mode, Owner};

const ROUTINGS: &str = r#"a routing is shown by {"action":"routing","agent":NAME}, and set by {"action":"routing","agent":NAME,"mode":"off"|"shadow"|"percent"|"full","percent":N,"drain":BOOL,"beside":BOOL,"operator":WHO} (percent with that mode alone; without a mode only what is named changes)"#;
const PINS: &str =
    r#"a pin is {"action":"pin","agent":NAME,"project":PROJECT_ID,"to":"new"|"old"|"none","operator":WHO}"#;

/// A look at an agent's routing, or a change of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRequest {
    /// Whose.
    pub agent: String,
    /// Whose turn it is to be; `None` leaves that as it is.
    pub mode: Option<Mode>,
    /// Whether unfinished deliveries follow; `None` means no with a mode, and without one leaves that as it is.
    pub drain: Option<bool>,
    /// Whether the agent decides in shadow what the old system owns; `None` as for `drain`.
    pub beside: Option<bool>,
    /// Who asks, for the audit; not needed to look.
    pub operator: String,
}

/// A project that is to be beyond the percentage, or not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Whose.
    pub agent: String,
    /// The project's id.
    pub project: String,
    /// To which side; `None` leaves it to the percentage again.
    pub to: Option<Owner>,
    /// Who asks, for the audit.
    pub operator: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteFields {
    agent: String,
    mode: Option<String>,
    percent: Option<u8>,
    drain: Option<bool>,
    beside: Option<bool>,
    #[serde(default)]
    operator: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PinFields {
    agent: String,
    project: String,
    to: String,
    #[serde(default)]
    operator: String,
}

impl RouteRequest {
    /// Reads it from the fields of an invocation.
    ///
    /// # Errors
    /// One line that names what is wrong and what there is instead.
    pub fn of(fields: &Map<String, Value>) -> Result<Self, String> {
        let RouteFields { agent, mode, percent, drain, beside, operator } = without_action(fields, ROUTINGS)?;
        let read = || {
            is_name("agent", &agent)?;
            let mode = mode.as_deref().map(|name| of_mode(name, percent)).transpose()?;
            if mode.is_none() && percent.is_some() {
                return Err("\"percent\" belongs to \"mode\":\"percent\"".to_owned());
            }
            if mode.is_some() || drain.is_some() || beside.is_some() {
                is_name("operator", &operator)?;
            }
            Ok(mode)
        };
        let mode = read().map_err(|wrong| format!("{wrong}: {ROUTINGS}"))?;
        Ok(Self { agent, mode, drain, beside, operator })
    }
}

impl Pin {
    /// Reads it from the fields of an invocation.
    ///
    /// # Errors
    /// One line that names what is wrong and what there is instead.
    pub fn of(fields: &Map<String, Value>) -> Result<Self, String> {
        let PinFields { agent, project, to, operator } = without_action(fields, PINS)?;
        let read = || {
            is_name("agent", &agent)?;
            is_name("project", &project)?;
            is_name("operator", &operator)?;
            match to.as_str() {
                "new" => Ok(Some(Owner::New)),
                "old" => Ok(Some(Owner::Old)),
                "none" => Ok(None),
                other => Err(format!("a project is not pinned to {other:?}")),
            }
        };
        let to = read().map_err(|wrong| format!("{wrong}: {PINS}"))?;
        Ok(Self { agent, project, to, operator })
    }
}

fn of_mode(name: &str, percent: Option<u8>) -> Result<Mode, String> {
    match (name, percent) {
        ("percent", Some(0..=100)) => {}
        ("percent", _) => return Err("\"percent\" is missing, or not between 0 and 100".into()),
        (_, Some(_)) => return Err("\"percent\" belongs to \"mode\":\"percent\"".into()),
        (_, None) => {}
    }
    Mode::named(name, percent.unwrap_or(0)).ok_or_else(|| format!("there is no mode {name:?}"))
}

fn without_action<T: serde::de::DeserializeOwned>(fields: &Map<String, Value>, there_is: &str) -> Result<T, String> {
    let mut fields = fields.clone();
    fields.remove("action");
    serde_json::from_value(Value::Object(fields)).map_err(|error| format!("{error}: {there_is}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn route(value: &Value) -> Result<RouteRequest, String> {
        RouteRequest::of(value.as_object().unwrap())
    }

    #[test]
    fn a_routing_is_shown_or_set() {
        let shown = route(&json!({ "action": "routing", "agent": "painter" })).unwrap();
        assert_eq!((shown.mode, shown.drain, shown.operator.as_str()), (None, None, ""));
        for (name, percent, mode) in [
            ("off", None, Mode::Off),
            ("shadow", None, Mode::Shadow),
            ("percent", Some(25), Mode::Percent(25)),
            ("percent", Some(0), Mode::Percent(0)),
            ("full", None, Mode::Full),
        ] {
            let request =
                json!({ "agent": "painter", "mode": name, "percent": percent, "drain": true, "operator": "ada" });
            let set = route(&request).unwrap();
            assert_eq!((set.mode, set.drain), (Some(mode), Some(true)));
        }
    }

    #[test]
    fn a_routing_that_cannot_be_is_refused_in_words() {
        for (request, words) in [
            (json!({}), "agent"),
            (json!({ "agent": "" }), "agent"),
            (json!({ "agent": "painter", "mode": "off" }), "operator"),
            (json!({ "agent": "painter", "drain": true }), "operator"),
            (json!({ "agent": "painter", "mode": "half", "operator": "ada" }), "half"),
            (json!({ "agent": "painter", "mode": "percent", "operator": "ada" }), "between 0 and 100"),
            (json!({ "agent": "painter", "mode": "percent", "percent": 101, "operator": "ada" }), "between 0 and 100"),
            (json!({ "agent": "painter", "mode": "full", "percent": 50, "operator": "ada" }), "belongs to"),
            (json!({ "agent": "painter", "percent": 50, "operator": "ada" }), "belongs to"),
            (json!({ "agent": "painter", "dran": true, "operator": "ada" }), "dran"),
        ] {
            let error = route(&request).unwrap_err();
            assert!(error.contains(words) && error.contains("\"action\":\"routing\""), "{request}: {error}");
        }
    }

    #[test]
    fn a_project_is_pinned_to_a_side_or_let_go() {
        let pin = |to: &str| {
            let fields = json!({ "action": "pin", "agent": "painter", "project": "p", "to": to, "operator": "ada" });
            Pin::of(fields.as_object().unwrap())
        };
        assert_eq!(pin("new").unwrap().to, Some(Owner::New));
        assert_eq!(pin("old").unwrap().to, Some(Owner::Old));
        assert_eq!(pin("none").unwrap().to, None);
        assert!(pin("both").unwrap_err().contains("\"both\""));
        let nobody = json!({ "agent": "painter", "project": "p", "to": "new" });
        assert!(Pin::of(nobody.as_object().unwrap()).unwrap_err().contains("operator"));
    }
}
