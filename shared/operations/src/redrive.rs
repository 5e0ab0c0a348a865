//! What the redrive function is asked. A key that is not known is refused and never passed over: a misspelled filter would select everything.

mod answer;

pub use answer::{
    Audited, Automatic, DeadLetterGroup, DeadLetterQueue, Dismissed, Failures, Inspected, InspectedQueue, Kind, Listed,
    Moving, ParkedGroup, Progress, Redriven, Way,
};

use crate::Selection;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How many dead letters or rows an answer has by default.
pub const DEFAULT_AT_MOST: u16 = 100;
/// The most it may name: an answer stays far below the 6 MB that a function may return (AWS Lambda Developer Guide, "Lambda quotas").
pub const LARGEST_AT_MOST: u16 = 1_000;
/// The highest speed of a move task, in messages per second (`StartMessageMoveTask` in the SQS API reference).
pub const MOVES_PER_SECOND: u16 = 500;
/// The most automatic redrives of one delivery; more than that is a loop, not a repair.
const MOST_TIMES: u16 = 20;

/// One thing to do. `action` names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Every dead-letter queue, with its depth and age. Changes nothing.
    List {},
    /// What is parked for one agent, in groups with their latest error. Changes nothing.
    Inspect {
        /// Whose.
        agent: String,
        /// Which of it; everything when left out.
        #[serde(default)]
        selection: Selection,
        /// How many messages of the dead-letter queue to inspect.
        #[serde(default = "default_at_most")]
        at_most: u16,
    },
    /// Sends parked deliveries back to their agent.
    Redrive(Redrive),
    /// The progress of the running or latest move task. Changes nothing.
    Progress {
        /// Whose.
        agent: String,
    },
    /// Ends a running move task; what it has moved stays moved, and the rest is parked again.
    Cancel {
        /// Whose.
        agent: String,
        /// Who asks.
        operator: String,
    },
    /// Sends a parked event back with another payload, as a revision; the original row stays as it is.
    Edit {
        /// The agent that it is parked for.
        agent: String,
        /// The event.
        event_id: Uuid,
        /// The new payload: JSON as text, so that every digit of it stays.
        payload: String,
        /// Who asks.
        operator: String,
        /// Why, for the audit.
        #[serde(default)]
        reason: String,
    },
    /// Settles parked deliveries that are not to be sent back. Final.
    Dismiss(Dismiss),
    /// Sets the automatic redrive of failures that may pass.
    Auto {
        /// For which agent.
        agent: String,
        /// How often each delivery at most; 0 switches it off.
        times: u16,
        /// After how many seconds the first time; each further time waits twice as long.
        #[serde(default = "quarter_of_an_hour")]
        first_after_secs: u32,
        /// Who asks.
        operator: String,
    },
    /// The latest failed and parked attempts of one agent. Changes nothing.
    Failures {
        /// Whose.
        agent: String,
        /// How many.
        #[serde(default = "default_at_most")]
        at_most: u16,
    },
    /// The latest rows of the audit. Changes nothing.
    Audit {
        /// How many.
        #[serde(default = "default_at_most")]
        at_most: u16,
    },
}

/// What goes back, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redrive {
    /// To which agent, and to no other.
    pub agent: String,
    /// Which deliveries; all of them, by a move task, when left out.
    #[serde(default)]
    pub selection: Selection,
    /// Say what would be done, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// What SNS could not deliver to the agent's queue, instead of what the agent parked.
    #[serde(default)]
    pub subscription: bool,
    /// The speed of the move task, in messages per second; as fast as SQS likes when left out. Refused on FIFO, where there is no move task.
    #[serde(default)]
    pub per_second: Option<u16>,
    /// Who asks.
    #[serde(default)]
    pub operator: String,
    /// Why, for the audit.
    #[serde(default)]
    pub reason: String,
}

/// What is ended, and why.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dismiss {
    /// Of which agent.
    pub agent: String,
    /// Which deliveries; all of them when left out.
    #[serde(default)]
    pub selection: Selection,
    /// Say how many that would be, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks.
    #[serde(default)]
    pub operator: String,
    /// Why: what is given up for good has a reason.
    #[serde(default)]
    pub reason: String,
}

/// What is wrong, shortened, without the value that the parser quotes, since it may be a payload.
fn unquoted(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = match (text.find('"'), text.rfind('"')) {
        (Some(from), Some(to)) => format!("{}\u{2026}{}", &text[..from], &text[to + 1..]),
        _ => text,
    };
    text.chars().take(300).collect()
}

const fn default_at_most() -> u16 {
    DEFAULT_AT_MOST
}

const fn quarter_of_an_hour() -> u32 {
    15 * 60
}

impl Request {
    /// Reads a request and checks what the types cannot.
    ///
    /// # Errors
    /// One line that names what is wrong.
    pub fn parse(json: serde_json::Value) -> Result<Self, String> {
        let request: Self =
            serde_json::from_value(json).map_err(|error| format!("not a request: {}", unquoted(&error)))?;
        request.check()?;
        Ok(request)
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::List {} => Ok(()),
            Self::Audit { at_most } => between("at_most", *at_most, LARGEST_AT_MOST),
            Self::Progress { agent } => named("agent", agent),
            Self::Cancel { agent, operator } => named("agent", agent).and(named("operator", operator)),
            Self::Failures { agent, at_most } | Self::Inspect { agent, at_most, .. } => {
                named("agent", agent).and(between("at_most", *at_most, LARGEST_AT_MOST))
            }
            Self::Edit { agent, operator, .. } => named("agent", agent).and(named("operator", operator)),
            Self::Auto { agent, times, operator, .. } => {
                named("agent", agent).and(named("operator", operator))?;
                if *times > MOST_TIMES {
                    Err(format!("times is {times}: at most {MOST_TIMES}, or 0 for off"))
                } else {
                    Ok(())
                }
            }
            Self::Redrive(redrive) => redrive.check(),
            Self::Dismiss(Dismiss { agent, dry_run: true, .. }) => named("agent", agent),
            Self::Dismiss(Dismiss { agent, operator, reason, .. }) => {
                named("agent", agent)?;
                named("operator", operator)?;
                let has_reason = !reason.trim().is_empty();
                has_reason
                    .then_some(())
                    .ok_or_else(|| "reason is missing: what is dismissed does not come back".to_owned())
            }
        }
    }
}

impl Redrive {
    fn check(&self) -> Result<(), String> {
        named("agent", &self.agent)?;
        if !self.dry_run {
            named("operator", &self.operator)?;
        }
        let everything = self.selection.is_everything();
        if self.subscription && !everything {
            return Err("what SNS could not deliver is not in the ledger: no selection can be made of it".into());
        }
        match self.per_second {
            Some(_) if self.subscription || !everything => {
                Err("per_second is the speed of a move task, and only everything of an agent goes by one".into())
            }
            Some(speed) => between("per_second", speed, MOVES_PER_SECOND),
            None => Ok(()),
        }
    }
}

fn named(what: &str, name: &str) -> Result<(), String> {
    // The audit prints it, so it may hold no control character.
    let fits = !name.trim().is_empty() && name.chars().count() <= 200 && !name.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(format!("{what} is missing: a name of at most 200 characters")) }
}

fn between(what: &str, value: u16, most: u16) -> Result<(), String> {
    if (1..=most).contains(&value) { Ok(()) } else { Err(format!("{what} is {value}: from 1 to {most}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_unknown_action_is_answered_with_those_that_there_are() {
        let error = Request::parse(json!({"action": "redrve"})).unwrap_err();
        for action in
            ["list", "inspect", "redrive", "progress", "cancel", "edit", "dismiss", "auto", "failures", "audit"]
        {
            assert!(error.contains(&format!("`{action}`")), "{error}");
        }
        assert!(Request::parse(json!({})).unwrap_err().contains("action"));
        assert!(Request::parse(json!([])).is_err() && Request::parse(json!(null)).is_err());
    }

    #[test]
    fn a_misspelled_filter_selects_nothing_instead_of_everything() {
        for request in [
            json!({"action": "redrive", "agent": "a", "operator": "o", "selecton": {"reasons": ["x"]}}),
            json!({"action": "redrive", "agent": "a", "operator": "o", "selection": {"reason": ["x"]}}),
            json!({"action": "inspect", "agent": "a", "selection": {"typ": []}}),
            json!({"action": "list", "agent": "a"}),
        ] {
            assert!(Request::parse(request.clone()).is_err(), "{request}");
        }
    }

    #[test]
    fn what_changes_something_needs_an_operator_and_a_dry_run_does_not() {
        let redrive = |extra: serde_json::Value| {
            let mut request = json!({"action": "redrive", "agent": "sentiment"});
            request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            Request::parse(request)
        };
        assert!(redrive(json!({"dry_run": true})).is_ok());
        assert!(redrive(json!({"operator": "ada"})).is_ok());
        assert!(redrive(json!({})).unwrap_err().contains("operator"));
        assert!(redrive(json!({"operator": "a\nb"})).unwrap_err().contains("operator"));
        assert!(Request::parse(json!({"action": "cancel", "agent": "sentiment", "operator": ""})).is_err());
    }

    #[test]
    fn what_is_given_up_for_good_needs_an_operator_and_a_reason() {
        let dismiss = |extra: serde_json::Value| {
            let mut request = json!({"action": "dismiss", "agent": "sentiment"});
            request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            Request::parse(request)
        };
        assert!(dismiss(json!({"operator": "ada", "reason": "a test of last year"})).is_ok());
        assert!(dismiss(json!({"dry_run": true})).is_ok());
        assert!(dismiss(json!({"operator": "ada", "reason": " "})).unwrap_err().contains("reason"));
        assert!(dismiss(json!({"reason": "a test"})).unwrap_err().contains("operator"));
        assert!(dismiss(json!({"operator": "ada", "reason": "a test", "selecton": {}})).is_err());
    }

    #[test]
    fn a_speed_belongs_to_a_move_task() {
        let redrive = |speed: u16, selection: serde_json::Value| {
            Request::parse(
                json!({"action": "redrive", "agent": "a", "operator": "o", "per_second": speed, "selection": selection}),
            )
        };
        assert!(redrive(500, json!({})).is_ok());
        assert!(redrive(501, json!({})).unwrap_err().contains("1 to 500"));
        assert!(redrive(0, json!({})).is_err());
        assert!(redrive(5, json!({"types": ["feedback.created"]})).unwrap_err().contains("move task"));
    }

    #[test]
    fn messages_that_sns_could_not_deliver_cannot_be_selected() {
        let request = json!({"action": "redrive", "agent": "a", "operator": "o", "subscription": true, "selection": {"types": ["x"]}});
        assert!(Request::parse(request).unwrap_err().contains("SNS"));
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let inspect = Request::parse(json!({"action": "inspect", "agent": "a"})).unwrap();
        assert_eq!(
            inspect,
            Request::Inspect { agent: "a".into(), selection: Selection::default(), at_most: DEFAULT_AT_MOST }
        );
        let auto = Request::parse(json!({"action": "auto", "agent": "a", "times": 3, "operator": "o"})).unwrap();
        assert!(matches!(auto, Request::Auto { first_after_secs: 900, times: 3, .. }));
        assert!(Request::parse(json!({"action": "auto", "agent": "a", "times": 21, "operator": "o"})).is_err());
    }

    #[test]
    fn a_request_survives_the_way_there() {
        let redrive = Redrive { agent: "a".into(), operator: "o".into(), per_second: Some(5), ..Redrive::default() };
        for request in [
            Request::List {},
            Request::Redrive(redrive),
            Request::Edit {
                agent: "a".into(),
                event_id: Uuid::nil(),
                payload: "{}".into(),
                operator: "o".into(),
                reason: String::new(),
            },
        ] {
            assert_eq!(Request::parse(serde_json::to_value(&request).unwrap()), Ok(request));
        }
    }
}
