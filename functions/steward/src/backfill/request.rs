//! What can be asked about a backfill: `{"action":"backfill", ...}`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use switchyard_store::BackfillSelection;

const THERE_IS: &str = r#"a backfill is {"action":"backfill","agent":NAME,"do":"start","selection":{"since":TIME,"until":TIME,"types":[TYPE,...],"projects":[PROJECT_ID,...]},"per_second":N,"operator":WHO} (all but since may be left out of the selection), the same with "do":"preview" and without a rate, {"action":"backfill","agent":NAME,"do":"progress"}, or "do":"pause"|"resume"|"cancel" with "operator":WHO (resume may set another "per_second")"#;

/// The rate where none is named: 180,000 an hour, which leaves a small database's live traffic alone.
pub const DEFAULT_PER_SECOND: u16 = 50;
/// The highest rate: a steward sends some hundreds a second, and whoever wants more wants a replay into an idle system.
const MOST_PER_SECOND: u16 = 1_000;
/// How many types and projects a selection names at most.
const MOST_NAMED: usize = 1_000;

/// What is done about a backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// It begins.
    Start,
    /// What it would take. Changes nothing.
    Preview,
    /// How far it is. Changes nothing.
    Progress,
    /// It takes nothing more until it is let go on.
    Pause,
    /// It goes on, at another rate where one is named.
    Resume,
    /// It ends here.
    Cancel,
}

impl Act {
    /// Whether it changes something, so that somebody must have a name for it.
    const fn changes(self) -> bool {
        !matches!(self, Self::Preview | Self::Progress)
    }
}

/// A request about an agent's backfill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackfillRequest {
    /// Whose.
    pub agent: String,
    /// What is done.
    #[serde(rename = "do")]
    pub act: Act,
    /// With [`Act::Start`] and [`Act::Preview`], and with nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<BackfillSelection>,
    /// How many a second at most, 1 to 1,000; with [`Act::Start`], 50 where it is left out, and [`Act::Resume`], as before where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u16>,
    /// Who asks, for the audit; not needed to look.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operator: String,
}

impl BackfillRequest {
    /// Reads it from the fields of an invocation.
    ///
    /// # Errors
    /// One line that names what is wrong and what there is instead.
    pub fn of(fields: &Map<String, Value>) -> Result<Self, String> {
        let mut fields = fields.clone();
        fields.remove("action");
        let request: Self =
            serde_json::from_value(Value::Object(fields)).map_err(|error| format!("{error}: {THERE_IS}"))?;
        request.check().map_err(|wrong| format!("{wrong}: {THERE_IS}"))?;
        Ok(request)
    }

    fn check(&self) -> Result<(), String> {
        crate::requests::is_name("agent", &self.agent)?;
        if self.act.changes() {
            crate::requests::is_name("operator", &self.operator)?;
        }
        match (&self.selection, self.act) {
            (Some(selection), Act::Start | Act::Preview) => check_selection(selection)?,
            (None, Act::Start | Act::Preview) => return Err("\"selection\" is missing".into()),
            (Some(_), _) => return Err("\"selection\" belongs to \"do\":\"start\" and \"do\":\"preview\"".into()),
            (None, _) => {}
        }
        match (self.per_second, self.act) {
            (Some(1..=MOST_PER_SECOND), Act::Start | Act::Resume) | (None, _) => Ok(()),
            (Some(_), Act::Start | Act::Resume) => Err(format!("\"per_second\" is between 1 and {MOST_PER_SECOND}")),
            (Some(_), _) => Err("\"per_second\" belongs to \"do\":\"start\" and \"do\":\"resume\"".into()),
        }
    }
}

fn check_selection(selection: &BackfillSelection) -> Result<(), String> {
    for (field, named) in [("types", &selection.types), ("projects", &selection.projects)] {
        if named.len() > MOST_NAMED {
            return Err(format!("{field:?} names more than {MOST_NAMED}"));
        }
        named.iter().try_for_each(|name| crate::requests::is_name(field, name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Result<BackfillRequest, String> {
        BackfillRequest::of(value.as_object().unwrap())
    }

    fn start() -> Value {
        json!({
            "action": "backfill", "agent": "painter", "do": "start", "per_second": 20, "operator": "ada",
            "selection": { "since": "2026-01-01T00:00:00Z", "types": ["thing.made"] },
        })
    }

    #[test]
    fn a_backfill_is_read_and_comes_out_as_it_went_in() {
        let request = read(&start()).unwrap();
        assert_eq!((request.act, request.per_second), (Act::Start, Some(20)));
        assert_eq!(request.selection.as_ref().unwrap().types, ["thing.made"]);
        assert_eq!(read(&serde_json::to_value(&request).unwrap()), Ok(request));
    }

    #[test]
    fn looking_needs_no_name_and_acting_does() {
        assert!(read(&json!({ "agent": "painter", "do": "progress" })).is_ok());
        assert!(read(&json!({ "agent": "painter", "do": "preview", "selection": { "since": "x" } })).is_ok());
        for act in ["pause", "resume", "cancel"] {
            assert!(read(&json!({ "agent": "painter", "do": act, "operator": "ada" })).is_ok());
            assert!(read(&json!({ "agent": "painter", "do": act })).unwrap_err().contains("operator"));
        }
        let faster = read(&json!({ "agent": "painter", "do": "resume", "per_second": 200, "operator": "ada" }));
        assert_eq!(faster.unwrap().per_second, Some(200));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_words() {
        let with = |path: &str, value: Value| {
            let mut request = start();
            *request.pointer_mut(path).unwrap() = value;
            read(&request).unwrap_err()
        };
        for (path, value, words) in [
            ("/agent", json!(" "), "agent"),
            ("/operator", json!(""), "operator"),
            ("/do", json!("dance"), "dance"),
            ("/do", json!("pause"), "\"selection\" belongs to"),
            ("/selection", Value::Null, "\"selection\" is missing"),
            ("/selection", json!({ "types": [] }), "since"),
            ("/selection", json!({ "since": "x", "typs": [] }), "typs"),
            ("/selection/types", json!(["a\nb"]), "types"),
            ("/selection/types", json!(vec!["a"; 1_001]), "more than 1000"),
            ("/per_second", json!(0), "between 1 and 1000"),
            ("/per_second", json!(1_001), "between 1 and 1000"),
            ("/per_second", json!(-1), "-1"),
        ] {
            let error = with(path, value);
            assert!(error.contains(words) && error.contains("\"do\":\"preview\""), "{path}: {error}");
        }
        let rate = read(&json!({ "agent": "painter", "do": "pause", "per_second": 5, "operator": "ada" }));
        assert!(rate.unwrap_err().contains("\"per_second\" belongs to"));
    }
}
