//! What there is to ask about comparisons.

use crate::requests::is_name;
use jiff::Timestamp;
use serde_json::{Map, Value};
use switchyard_store::Period;

/// A request about comparisons.
#[derive(Debug, Clone, PartialEq)]
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
        /// In which steps the trend is told.
        by: Period,
        /// How many examples of each outcome.
        examples: i64,
        /// Who wants to see the values that differ, if somebody does.
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

impl CompareRequest {
    /// Reads a request's fields.
    ///
    /// # Errors
    /// One line that names what is wrong and what there is instead.
    pub(crate) fn of(fields: &Map<String, Value>) -> Result<Self, String> {
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

fn named(fields: &Map<String, Value>, name: &str) -> Result<String, String> {
    let value = fields.get(name).and_then(Value::as_str).unwrap_or_default();
    is_name(name, value).map(|()| value.to_owned())
}

fn only(fields: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match fields.keys().find(|name| *name != "action" && !known.contains(&name.as_str())) {
        Some(unknown) => Err(format!("there is no field {:?} here", unknown.chars().take(100).collect::<String>())),
        None => Ok(()),
    }
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
    fn values_are_shown_to_somebody_with_a_name() {
        let asked = json!({ "agent": "sentiment", "values": true });
        assert!(read(&asked).unwrap_err().contains("operator"));
        let asked = json!({ "agent": "sentiment", "values": true, "operator": "ada" });
        assert!(matches!(read(&asked), Ok(CompareRequest::Report { values: Some(who), .. }) if who == "ada"));
    }

    #[test]
    fn a_mapping_is_set_or_dropped_by_somebody() {
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
