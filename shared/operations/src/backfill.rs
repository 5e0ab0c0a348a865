//! Backfills: `{"action":"backfill", ...}`.

use crate::check::{checked, is_name};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const THERE_IS: &str = r#"a backfill is {"action":"backfill","agent":NAME,"do":"start","selection":{"since":TIME,"until":TIME,"types":[TYPE,...],"projects":[PROJECT_ID,...]},"per_second":N,"operator":WHO} (all but since may be left out of the selection), the same with "do":"preview" and without a rate, {"action":"backfill","agent":NAME,"do":"progress"}, or "do":"pause"|"resume"|"cancel" with "operator":WHO (resume may set another "per_second")"#;

/// The rate where none is named: 180,000 an hour, which leaves a small database's live traffic alone.
pub const DEFAULT_PER_SECOND: u16 = 50;
/// The highest rate: a steward sends some hundreds a second, and a higher rate is a replay into an idle system.
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
    /// Whether it changes something, so that it needs an operator's name.
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
        checked(fields, Self::check, THERE_IS)
    }

    fn check(&self) -> Result<(), String> {
        is_name("agent", &self.agent)?;
        if self.act.changes() {
            is_name("operator", &self.operator)?;
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
        named.iter().try_for_each(|name| is_name(field, name))?;
    }
    Ok(())
}

/// Which events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackfillSelection {
    /// Of these types; where none is named, of all that the agent listens to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Of these projects; where none is named, of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<String>,
    /// From then on: RFC 3339. Of an event from before the log it is `created_at` that counts, of any other when it was logged.
    pub since: String,
    /// Up to then: RFC 3339; up to now where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Whether a backfill goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillState {
    /// The steward takes its steps.
    Running,
    /// Until an operator resumes it.
    Paused,
    /// All that it has selected was taken, and nothing is unfinished; something may be parked.
    Done,
    /// An operator has cancelled it.
    Cancelled,
}

/// What a backfill is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillPhase {
    /// Events from before the log get their sequences.
    Numbering,
    /// The selection is counted.
    Counting,
    /// Deliveries are written and sent.
    Sending,
    /// All are; some are unfinished.
    Ending,
}

/// How far a backfill is. Its deliveries are counted here and nowhere else: the ledger of an agent counts live ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackfillProgress {
    /// Its run: the key of its deliveries.
    pub run: i32,
    /// Whether it goes on.
    pub state: BackfillState,
    /// What it is about.
    pub phase: BackfillPhase,
    /// Why it stands still although it is running, or why it paused itself.
    pub waits: Option<String>,
    /// Its rate at most.
    pub per_second: u32,
    /// The types.
    pub types: Vec<String>,
    /// The projects; none means all.
    pub projects: Vec<String>,
    /// From then on: RFC 3339.
    pub since: String,
    /// Up to then: RFC 3339.
    pub until: String,
    /// How many events from before the log have a sequence, this backfill's or not.
    pub numbered: i64,
    /// How many events it has selected; grows while they are counted.
    pub selected: i64,
    /// How many more would have fitted and belong to the old system by the routing, wait for their time, or were cancelled before it: another
    /// backfill takes what has become the agent's by then.
    pub left_out: i64,
    /// How many of the selected have a delivery.
    pub taken: i64,
    /// Of those: done.
    pub done: i64,
    /// Unfinished.
    pub pending: i64,
    /// Parked.
    pub parked: i64,
    /// Superseded by something newer, or by the end of a backfill that was cancelled.
    pub superseded: i64,
    /// Expired, as those are whose event was deleted.
    pub expired: i64,
    /// How many a second it has taken since it was started, let go on, or set to another rate; none while it is not sending.
    pub pace: Option<f64>,
    /// When it will have taken all of them at that pace: RFC 3339.
    pub ends_at: Option<String>,
    /// When it was started: RFC 3339.
    pub started_at: String,
    /// When it was done or cancelled: RFC 3339.
    pub ended_at: Option<String>,
}

/// What a backfill of a selection would take, of one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillPreview {
    /// The type.
    pub event_type: String,
    /// How many events.
    pub events: i64,
    /// When the first of them happened: RFC 3339.
    pub oldest: String,
    /// When the last of them happened: RFC 3339.
    pub newest: String,
}

/// To `backfill`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackfillAnswer {
    /// The agent.
    pub agent: String,
    /// What a backfill of the selection would take, by type, the most first; only where that was asked.
    pub preview: Option<Vec<BackfillPreview>>,
    /// How far its newest backfill is; none where it has never had one.
    pub progress: Option<BackfillProgress>,
    /// How many unfinished and parked deliveries a cancellation has ended.
    pub cancelled: Option<i64>,
}

/// What a pass did about a backfill.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfilled {
    /// The agent.
    pub agent: String,
    /// How many windows of it were prepared: events numbered, or the selection counted.
    pub prepared: usize,
    /// How many deliveries were written.
    pub taken: usize,
    /// How many messages its queue has taken.
    pub sent: usize,
    /// How many were parked at once, since no queue could carry them.
    pub parked: usize,
    /// How it stands, where it does not go on: done, cancelled, or paused since too much of it is parked.
    pub stands: Option<BackfillState>,
    /// Why it stood still at the end, where something else went first.
    pub waits: Option<String>,
    /// What went wrong.
    pub trouble: Option<String>,
}

crate::words!(BackfillState { Running = "running", Paused = "paused", Done = "done", Cancelled = "cancelled" });
crate::words!(BackfillPhase { Numbering = "numbering", Counting = "counting", Sending = "sending", Ending = "ending" });

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
