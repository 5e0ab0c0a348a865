//! Whose turn it is, and which projects are beyond the percentage: `{"action":"routing", ...}` and `{"action":"pin", ...}`.

use crate::{
    check::{is_name, typed},
    cutover::CutoverState,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const ROUTINGS: &str = r#"a routing is shown by {"action":"routing","agent":NAME}, and set by {"action":"routing","agent":NAME,"mode":"off"|"shadow"|"percent"|"full","percent":N,"drain":BOOL,"beside":BOOL,"operator":WHO} (percent with that mode alone; without a mode only what is named changes)"#;
const PINS: &str =
    r#"a pin is {"action":"pin","agent":NAME,"project":PROJECT_ID,"to":"new"|"old"|"none","operator":WHO}"#;

/// A look at an agent's routing, or a change of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "RouteFields")]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "PinFields")]
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteFields {
    agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beside: Option<bool>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    operator: String,
}

impl From<RouteRequest> for RouteFields {
    fn from(RouteRequest { agent, mode, drain, beside, operator }: RouteRequest) -> Self {
        let percent = mode.filter(|mode| matches!(mode, Mode::Percent(_))).map(Mode::percent);
        Self { agent, mode: mode.map(|mode| mode.name().to_owned()), percent, drain, beside, operator }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PinFields {
    agent: String,
    project: String,
    to: String,
    #[serde(default)]
    operator: String,
}

impl From<Pin> for PinFields {
    fn from(Pin { agent, project, to, operator }: Pin) -> Self {
        let to = match to {
            Some(Owner::New) => "new",
            Some(Owner::Old) => "old",
            None => "none",
        };
        Self { agent, project, to: to.to_owned(), operator }
    }
}

impl RouteRequest {
    /// Reads it from the fields of an invocation.
    ///
    /// # Errors
    /// One line that names what is wrong and what there is instead.
    pub fn of(fields: &Map<String, Value>) -> Result<Self, String> {
        let RouteFields { agent, mode, percent, drain, beside, operator } =
            typed(fields).map_err(|wrong| format!("{wrong}: {ROUTINGS}"))?;
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
        let PinFields { agent, project, to, operator } = typed(fields).map_err(|wrong| format!("{wrong}: {PINS}"))?;
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

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The old system does everything.
    Off,
    /// The old system does everything; the new agent decides beside it and applies nothing.
    Shadow,
    /// The new agent has this many percent (0 to 100), by a hash of what it is routed by, and the projects that are pinned to it; never those
    /// that are pinned to the old system.
    Percent(u8),
    /// The new agent does everything.
    Full,
}

impl Mode {
    /// Its name in the database and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::Percent(_) => "percent",
            Self::Full => "full",
        }
    }

    /// The agent's share before any pin: 0 for `off` and `shadow`, 100 for `full`.
    #[must_use]
    pub fn percent(self) -> u8 {
        match self {
            Self::Off | Self::Shadow => 0,
            Self::Percent(n) => n.min(100),
            Self::Full => 100,
        }
    }

    /// The mode of that name; the percentage counts for `percent` alone, and is 100 at most. `None` for another name.
    #[must_use]
    pub fn named(name: &str, percent: u8) -> Option<Self> {
        match name {
            "off" => Some(Self::Off),
            "shadow" => Some(Self::Shadow),
            "percent" => Some(Self::Percent(percent.min(100))),
            "full" => Some(Self::Full),
            _ => None,
        }
    }
}

/// A side of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The agent.
    New,
    /// The system that it replaces.
    Old,
}

impl Owner {
    /// Its letter in the ledger.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::New => "n",
            Self::Old => "o",
        }
    }
}

/// Live deliveries that are unfinished or parked, by what the routing of now says of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moves {
    /// The old system has them, and they would go to the agent.
    pub to_new: i64,
    /// The agent has them, and they would go to the old system.
    pub to_old: i64,
    /// Those of `to_new` that the old system has failed: they are parked on the way, since it may have done half of each.
    pub touched: i64,
    /// The agent has them, as it should.
    pub stay_new: i64,
    /// The old system has them, as it should.
    pub stay_old: i64,
}

/// To `routing` and `pin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routed {
    /// The agent.
    pub agent: String,
    /// `off`, `shadow`, `percent` or `full`.
    pub mode: String,
    /// The agent's share before any pin.
    pub percent: u8,
    /// Whether unfinished deliveries follow every change.
    pub drain: bool,
    /// Whether the agent decides in shadow what the old system owns although there is a percentage.
    pub beside: bool,
    /// Projects that are the agent's while there is a percentage.
    pub pinned_new: Vec<String>,
    /// Projects that are the old system's while there is a percentage.
    pub pinned_old: Vec<String>,
    /// Goes up with every change.
    pub version: i32,
    /// Unfinished and parked deliveries, by what this routing says of them.
    pub moves: Moves,
    /// What has followed the change at once, where it drains.
    pub moved: Option<Moved>,
    /// How a cutover plan of the agent stands that is under way: a change of its routing pauses it.
    pub cutover: Option<CutoverState>,
}

/// Deliveries that have followed a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// How many.
    pub deliveries: i64,
    /// Whether there was time for all deliveries without a worker.
    pub all: bool,
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
