//! Places inside JSON: `sentiment.score`, `matches.0.id`.

use serde_json::Value;
use std::fmt;

/// A place inside JSON: names of fields, or places in a list counted from 0, outermost first. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<String>);

impl Path {
    /// A path of these steps; none where there are no steps, or one is empty.
    #[must_use]
    pub fn of(steps: Vec<String>) -> Option<Self> {
        (!steps.is_empty() && steps.iter().all(|step| !step.is_empty())).then_some(Self(steps))
    }

    /// The outermost step: the column, where the path is into a row.
    #[must_use]
    pub fn first(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// The steps below the outermost one.
    #[must_use]
    pub fn below(&self) -> &[String] {
        self.0.get(1..).unwrap_or_default()
    }

    /// What stands there; null where nothing does.
    #[must_use]
    pub fn in_value<'v>(&self, value: &'v Value) -> &'v Value {
        self.0.iter().try_fold(value, |value, step| step_into(value, step)).unwrap_or(&Value::Null)
    }
}

fn step_into<'v>(value: &'v Value, step: &str) -> Option<&'v Value> {
    match value {
        Value::Object(fields) => fields.get(step),
        Value::Array(elements) => elements.get(step.parse::<usize>().ok()?),
        _ => None,
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(text: &str) -> Path {
        Path::of(text.split('.').map(ToOwned::to_owned).collect()).unwrap()
    }

    #[test]
    fn a_path_leads_through_fields_and_lists_and_to_null_where_there_is_nothing() {
        let value = json!({ "a": { "b": [10, { "c": true }] } });
        assert_eq!(path("a.b.0").in_value(&value), &json!(10));
        assert_eq!(path("a.b.1.c").in_value(&value), &json!(true));
        for nowhere in ["b", "a.b.2", "a.b.x", "a.b.0.c"] {
            assert_eq!(path(nowhere).in_value(&value), &Value::Null, "{nowhere}");
        }
    }

    #[test]
    fn a_path_has_steps() {
        assert_eq!(Path::of(Vec::new()), None);
        assert_eq!(Path::of(vec!["a".into(), String::new()]), None);
        assert_eq!((path("a.b.c").first(), path("a.b.c").below().len(), path("a").below().len()), ("a", 2, 0));
    }
}
