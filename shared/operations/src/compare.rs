//! Comparisons of agents in shadow mode with the old system: `{"action":"compare", ...}`.

use crate::check::{named, only};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// A request about comparisons.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(into = "CompareFields")]
pub enum CompareRequest {
    /// How all agents compare that are compared. Changes nothing.
    Overview {
        /// Since when: RFC 3339; none for the last seven days.
        since: Option<String>,
    },
    /// How one agent compares. Changes nothing; with values it leaves an audit row, since they are payload.
    Report {
        /// The agent.
        agent: String,
        /// Since when: RFC 3339; none for the last seven days.
        since: Option<String>,
        /// The steps of the trend.
        by: Period,
        /// How many examples of each outcome.
        examples: i64,
        /// Who wants to see the values that differ, if they are wanted.
        values: Option<String>,
    },
    /// Sets with what an agent is compared, and compares what there is.
    Set {
        /// The agent.
        agent: String,
        /// The mapping.
        mapping: Value,
        /// Who asks, for the audit.
        operator: String,
    },
    /// Compares an agent no longer.
    Drop {
        /// The agent.
        agent: String,
        /// Who asks, for the audit.
        operator: String,
    },
}

/// How many examples of each outcome are shown at most: each with values is a look at both sides.
const MOST_EXAMPLES: i64 = 50;

const THERE_IS: &str = r#"there is {"action":"compare"} with "since":TIME, the same with "agent":NAME, "by":"hour"|"day", "examples":N and "values":true with "operator":WHO, and {"action":"compare","agent":NAME,"mapping":{...} or null,"operator":WHO}"#;

/// A request as it is written.
#[derive(Default, Serialize)]
struct CompareFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<Period>,
    #[serde(skip_serializing_if = "Option::is_none")]
    examples: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mapping: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<String>,
}

impl From<CompareRequest> for CompareFields {
    fn from(request: CompareRequest) -> Self {
        let nothing = Self::default();
        match request {
            CompareRequest::Overview { since } => Self { since, ..nothing },
            CompareRequest::Report { agent, since, by, examples, values } => Self {
                agent: Some(agent),
                since,
                by: Some(by),
                examples: Some(examples),
                values: values.is_some().then_some(true),
                operator: values,
                ..nothing
            },
            CompareRequest::Set { agent, mapping, operator } => {
                Self { agent: Some(agent), mapping: Some(mapping), operator: Some(operator), ..nothing }
            }
            CompareRequest::Drop { agent, operator } => {
                Self { agent: Some(agent), mapping: Some(Value::Null), operator: Some(operator), ..nothing }
            }
        }
    }
}

impl CompareRequest {
    /// Reads a request's fields.
    ///
    /// # Errors
    /// One line that names what is wrong and what there is instead.
    pub fn of(fields: &Map<String, Value>) -> Result<Self, String> {
        Self::read(fields).map_err(|wrong| format!("{wrong}: {THERE_IS}"))
    }

    fn read(fields: &Map<String, Value>) -> Result<Self, String> {
        if let Some(mapping) = fields.get("mapping") {
            only(fields, &["agent", "mapping", "operator"])?;
            let (agent, operator) = (named(fields, "agent")?, named(fields, "operator")?);
            return Ok(match mapping {
                Value::Null => Self::Drop { agent, operator },
                mapping => Self::Set { agent, mapping: mapping.clone(), operator },
            });
        }
        let since = match fields.get("since") {
            None => None,
            Some(since) => {
                let time = since.as_str().and_then(|since| since.parse::<Timestamp>().ok());
                Some(time.ok_or("\"since\" is no time in RFC 3339")?.to_string())
            }
        };
        if !fields.contains_key("agent") {
            only(fields, &["since"])?;
            return Ok(Self::Overview { since });
        }
        only(fields, &["agent", "since", "by", "examples", "values", "operator"])?;
        let by = match fields.get("by").map(|by| by.as_str().unwrap_or_default()) {
            None | Some("hour") => Period::Hour,
            Some("day") => Period::Day,
            Some(_) => return Err("\"by\" is \"hour\" or \"day\"".into()),
        };
        let examples = match fields.get("examples") {
            None => 3,
            Some(n) => n
                .as_i64()
                .filter(|n| (0..=MOST_EXAMPLES).contains(n))
                .ok_or_else(|| format!("\"examples\" is a number from 0 to {MOST_EXAMPLES}"))?,
        };
        let values = match fields.get("values").map(Value::as_bool) {
            None | Some(Some(false)) => None,
            Some(Some(true)) => Some(named(fields, "operator")?),
            Some(None) => return Err("\"values\" is true or false".into()),
        };
        Ok(Self::Report { agent: named(fields, "agent")?, since, by, examples, values })
    }
}

/// How an agent's decisions and the old system compare, in events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Both did the same, or both did nothing.
    pub agreed: i64,
    /// Both did something, and not the same.
    pub differed: i64,
    /// Only the old system did something; the rows that answer no event are among these.
    pub only_old: i64,
    /// Only the agent would have done something.
    pub only_new: i64,
    /// Decided and not compared yet, since the old system still has time; or logged in the last ten minutes and not decided yet.
    pub not_yet: i64,
    /// The next event of the same key came before any answer.
    pub overtaken: i64,
    /// Rows of the old system that answer no event.
    pub unmatched: i64,
}

impl Compared {
    /// How many events say something: those that agree, and those that do not.
    #[must_use]
    pub fn judged(&self) -> i64 {
        self.agreed + self.differed + self.only_old + self.only_new
    }

    /// Which share of what says something does not agree, from 0 to 1; none where nothing says anything.
    #[must_use]
    pub fn mismatch(&self) -> Option<f64> {
        let judged = self.judged();
        // Counts of events are far below 2^52, up to which an f64 is exact.
        (judged > 0).then(|| (judged - self.agreed) as f64 / judged as f64)
    }
}

/// The steps of a trend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// By the hour.
    Hour,
    /// By the day, in UTC.
    Day,
}

/// A step of a trend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trend {
    /// When it begins: RFC 3339.
    pub from: String,
    /// How its events compare; what is not compared yet is in no step.
    #[serde(flatten)]
    pub compared: Compared,
}

/// An event that did not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The event.
    pub event_id: Uuid,
    /// `differed`, `only_old` or `only_new`.
    pub outcome: String,
    /// The fields that differ, by name.
    pub differs: Vec<String>,
    /// When the agent decided: RFC 3339.
    pub at: String,
}

/// A row of the old system that answers no event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmatchedRow {
    /// Among which answers of the mapping.
    pub answer: String,
    /// Its key, part by part.
    pub key: Vec<String>,
    /// When it was written: RFC 3339.
    pub at: String,
}

/// To `compare`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answered {
    /// To one with an agent.
    Report(Box<Report>),
    /// To one without.
    Overview(Overview),
}

/// How all agents compare that are compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// Since when: RFC 3339.
    pub since: String,
    /// Each, by name.
    pub agents: Vec<Line>,
}

/// How an agent compares, in a line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The agent.
    pub agent: String,
    /// In events.
    #[serde(flatten)]
    pub compared: Compared,
    /// Which share of what says something does not agree, 0 to 1.
    pub mismatch: Option<f64>,
    /// Why it cannot be compared just now.
    pub trouble: Option<String>,
}

/// How an agent compares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Since when: RFC 3339.
    pub since: String,
    /// In numbers.
    #[serde(flatten)]
    pub line: Line,
    /// Since when its mapping stands; none where it has none, and is not compared.
    pub mapping_since: Option<String>,
    /// The mapping.
    pub mapping: Option<Value>,
    /// The same step by step.
    pub trend: Vec<Trend>,
    /// Events that did not agree, the latest of each outcome.
    pub examples: Vec<Shown>,
    /// Rows of the old system that answer no event, the latest.
    pub unmatched_rows: Vec<UnmatchedRow>,
}

/// An event that did not agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// Which, and how.
    #[serde(flatten)]
    pub example: Example,
    /// Both sides' values of what does not agree, as they stand now; only if they were requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Values>>,
    /// Why the agent refused, where it did; with the values only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// With the values, where they were read anew and came out otherwise than when they were counted (the old system has changed its row): how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_now: Option<String>,
}

/// Both sides' values of a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Values {
    /// `ANSWER.FIELD`.
    pub field: String,
    /// The agent's.
    pub ours: Value,
    /// The old system's.
    pub theirs: Value,
}

/// What a pass compared of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advanced {
    /// The agent.
    pub agent: String,
    /// How many decisions were compared.
    pub compared: u64,
    /// How many of them do not agree.
    pub mismatched: u64,
    /// How many rows of the old system were found that answer no event.
    pub unmatched: u64,
    /// Why it could not be compared, or not to the end.
    pub trouble: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(fields: &Value) -> Result<CompareRequest, String> {
        CompareRequest::of(fields.as_object().unwrap())
    }

    #[test]
    fn a_report_is_of_one_agent_or_of_all() {
        assert_eq!(read(&json!({ "action": "compare" })), Ok(CompareRequest::Overview { since: None }));
        let report = CompareRequest::Report {
            agent: "sentiment".into(),
            since: Some("2026-01-05T09:00:00Z".into()),
            by: Period::Day,
            examples: 5,
            values: None,
        };
        let asked = json!({ "action": "compare", "agent": "sentiment", "since": "2026-01-05T10:00:00+01:00", "by": "day", "examples": 5 });
        assert_eq!(read(&asked), Ok(report));
    }

    #[test]
    fn showing_values_needs_an_operator() {
        let asked = json!({ "agent": "sentiment", "values": true });
        assert!(read(&asked).unwrap_err().contains("operator"));
        let asked = json!({ "agent": "sentiment", "values": true, "operator": "ada" });
        assert!(matches!(read(&asked), Ok(CompareRequest::Report { values: Some(who), .. }) if who == "ada"));
    }

    #[test]
    fn setting_or_dropping_a_mapping_needs_an_operator() {
        let asked = |mapping: Value| json!({ "agent": "sentiment", "mapping": mapping, "operator": "ada" });
        assert!(matches!(read(&asked(json!({ "wait": "1m" }))), Ok(CompareRequest::Set { .. })));
        let dropped = CompareRequest::Drop { agent: "sentiment".into(), operator: "ada".into() };
        assert_eq!(read(&asked(Value::Null)), Ok(dropped));
    }

    #[test]
    fn what_is_not_understood_is_answered_with_what_there_is() {
        for (asked, names) in [
            (json!({ "since": "yesterday" }), "since"),
            (json!({ "by": "hour" }), "by"),
            (json!({ "agent": "a", "by": "week" }), "by"),
            (json!({ "agent": "a", "examples": 51 }), "examples"),
            (json!({ "agent": "a", "examples": "all" }), "examples"),
            (json!({ "agent": "a", "values": "yes" }), "values"),
            (json!({ "agent": "a\nb" }), "agent"),
            (json!({ "agent": "a", "mapping": {} }), "operator"),
            (json!({ "agent": "a", "mapping": {}, "operator": "ada", "since": "x" }), "since"),
        ] {
            let error = read(&asked).unwrap_err();
            assert!(error.contains(names) && error.contains("there is {\"action\":\"compare\"}"), "{asked}: {error}");
        }
    }
}
