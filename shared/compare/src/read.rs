//! A mapping out of JSON. Whatever is wrong is said with the key that it stands at.

use crate::{
    kind::{Kind, Tolerance},
    mapping::{Answer, By, Condition, Field, KeyPart, Mapping, Ours, Source, Theirs, What},
    path::Path,
    span::Span,
};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, str::FromStr};

/// What is wrong with a mapping, and at which of its keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct Wrong {
    /// Such as `answers[0].fields[2].within`, places counted from 0.
    pub key: String,
    /// What is wrong there.
    pub problem: String,
}

/// How much earlier than its event an answer may be dated, where the mapping does not say.
const EARLY: Span = Span { millis: 1_000 };
/// The longest wait: what is compared must be kept apart until it is over, and a day's log is what can be looked through for it.
const LONGEST_WAIT: Span = Span { millis: 24 * 3_600_000 };
/// The most a mapping may hold of anything: a statement is written from it.
const MOST: usize = 50;

impl Mapping {
    /// Reads a mapping.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn read(given: &Value) -> Result<Self, Wrong> {
        let given = At { key: String::new(), value: given };
        let fields = given.fields(&["wait", "early", "answers"])?;
        let wait: Span = fields.required("wait", "how long the old system may take, as in \"2m\"")?.parsed()?;
        if wait.millis == 0 || wait > LONGEST_WAIT {
            return Err(fields.wrong("wait", format!("is more than 0 and at most {LONGEST_WAIT}")));
        }
        let early = fields.optional("early").map(|at| at.parsed()).transpose()?.unwrap_or(EARLY);
        if early > wait {
            return Err(fields.wrong("early", "is at most \"wait\""));
        }
        let answers = fields.required("answers", "a list of what the old system does about an event")?;
        let answers: Vec<Answer> = answers.several()?.iter().map(answer).collect::<Result<_, _>>()?;
        let mut names = BTreeSet::new();
        for (place, answer) in answers.iter().enumerate() {
            if !names.insert(&answer.name) {
                let key = format!("answers[{place}].name");
                return Err(Wrong { key, problem: format!("{:?} is the name of another answer already", answer.name) });
            }
        }
        Ok(Self { wait, early, answers })
    }
}

fn answer(given: &At<'_>) -> Result<Answer, Wrong> {
    let fields = given.fields(&["name", "ours", "theirs", "fields", "unmatched"])?;
    let name = fields.required("name", "what reports call this answer")?.name()?;
    let ours = ours(&fields.required("ours", "such as { effect = \"any\" } or { event = \"sentiment.analyzed\" }")?)?;
    let is = "{ table = …, key = …, at = … } or { event = …, by = … }";
    let theirs = theirs(&fields.required("theirs", is)?)?;
    let compared = match fields.optional("fields") {
        Some(list) => list.list()?.iter().map(|given| field(given, &theirs)).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    let unmatched = match fields.optional("unmatched") {
        None => true,
        Some(given) => match given.text()? {
            "count" => true,
            "ignore" => false,
            other => return Err(given.wrong(format!("is \"count\" or \"ignore\", not {other:?}"))),
        },
    };
    Ok(Answer { name, ours, theirs, fields: compared, unmatched })
}

fn ours(given: &At<'_>) -> Result<Ours, Wrong> {
    let fields = given.fields(&["effect", "event", "nth", "nothing"])?;
    let what = match (fields.optional("effect"), fields.optional("event")) {
        (Some(effect), None) => What::Effect(Some(effect.name()?).filter(|kind| kind != "any")),
        (None, Some(event)) => What::Event(event.name()?),
        _ => return Err(given.wrong("names an effect's kind (or \"any\"), or an event's type: one of the two")),
    };
    let nth = match fields.optional("nth") {
        None => 1,
        Some(given) => given
            .value
            .as_u64()
            .and_then(|nth| usize::try_from(nth).ok())
            .filter(|nth| (1..=1_000).contains(nth))
            .ok_or_else(|| given.wrong("is a place from 1 to 1000"))?,
    };
    Ok(Ours { what, nth, nothing: conditions(fields.optional("nothing"))? })
}

fn theirs(given: &At<'_>) -> Result<Theirs, Wrong> {
    let fields = given.fields(&["schema", "table", "key", "at", "overwritten", "event", "by", "only", "nothing"])?;
    let source = match (fields.optional("table"), fields.optional("event")) {
        (Some(table), None) => {
            fields.none_of(&["by"], "is for an event, and this is a table")?;
            Source::Table {
                schema: fields.optional("schema").map_or_else(|| Ok("public".to_owned()), |schema| schema.name())?,
                table: table.name()?,
                key: key(&fields.required(
                    "key",
                    "which column has which field of the event, as in { post_id = \"aggregate_id\" }",
                )?)?,
                at: fields.required("at", "the column with the time at which the row was written")?.name()?,
                overwritten: fields.optional("overwritten").map(|given| given.truth()).transpose()?,
            }
        }
        (None, Some(event)) => {
            fields.none_of(&["schema", "key", "at", "overwritten"], "is for a table, and this is an event")?;
            let by = fields.required("by", "\"causation\", \"correlation\" or \"aggregate\"")?;
            let by = match by.text()? {
                "causation" => By::Causation,
                "correlation" => By::Correlation,
                "aggregate" => By::Aggregate,
                other => {
                    return Err(by.wrong(format!("is \"causation\", \"correlation\" or \"aggregate\", not {other:?}")));
                }
            };
            Source::Events { event_type: event.name()?, by }
        }
        _ => return Err(given.wrong("names a table of the old system or an event's type: one of the two")),
    };
    let theirs =
        Theirs { source, only: conditions(fields.optional("only"))?, nothing: conditions(fields.optional("nothing"))? };
    for (name, list) in [("only", &theirs.only), ("nothing", &theirs.nothing)] {
        for (place, condition) in list.iter().enumerate() {
            in_event(&theirs.source, &condition.path)
                .map_err(|problem| Wrong { key: format!("{}.{name}[{place}].path", given.key), problem })?;
        }
    }
    Ok(theirs)
}

fn key(given: &At<'_>) -> Result<Vec<(String, KeyPart)>, Wrong> {
    let Value::Object(columns) = given.value else { return Err(given.wrong("is a table of columns")) };
    if columns.is_empty() || columns.len() > 4 {
        return Err(given.wrong("names one to four columns"));
    }
    let part = |(column, value): (&String, &Value)| {
        let given = given.child(column, value);
        legible(column).map_err(|problem| given.wrong(problem))?;
        Ok((column.clone(), key_part(&given)?))
    };
    columns.iter().map(part).collect()
}

fn key_part(given: &At<'_>) -> Result<KeyPart, Wrong> {
    let path = given.path()?;
    let below = path.below().to_vec();
    Ok(match (path.first(), below.is_empty()) {
        ("id", true) => KeyPart::Id,
        ("aggregate_id", true) => KeyPart::AggregateId,
        ("project_id", true) => KeyPart::ProjectId,
        ("correlation_id", true) => KeyPart::CorrelationId,
        ("payload", false) => KeyPart::Payload(below),
        ("metadata", false) => KeyPart::Metadata(below),
        _ => {
            return Err(given.wrong(format!(
                "\"{path}\" is nothing of an event: there is id, aggregate_id, project_id, correlation_id, payload.… and metadata.…"
            )));
        }
    })
}

fn field(given: &At<'_>, theirs: &Theirs) -> Result<Field, Wrong> {
    let fields = given.fields(&["name", "ours", "theirs", "as", "within"])?;
    let ours = fields.required("ours", "its place in the agent's effect or event")?.path()?;
    let place = fields.required("theirs", "its place in the old system's row or event")?;
    let path = place.path()?;
    in_event(&theirs.source, &path).map_err(|problem| place.wrong(problem))?;
    let name = fields.optional("name").map(|name| name.name()).transpose()?.unwrap_or_else(|| ours.to_string());
    let within = fields.optional("within");
    let kind = match fields.optional("as") {
        None => Kind::Text,
        Some(given) => match given.text()? {
            "text" => Kind::Text,
            "number" => Kind::Number(within.as_ref().map_or(Ok(Tolerance::Absolute(0.0)), tolerance)?),
            "boolean" => Kind::Boolean,
            "time" => Kind::Time(within.as_ref().map_or(Ok(Span { millis: 0 }), At::parsed)?),
            "set" => Kind::Set,
            other => return Err(given.wrong(format!("is text, number, boolean, time or set, not {other:?}"))),
        },
    };
    if let (Some(within), Kind::Text | Kind::Boolean | Kind::Set) = (&within, kind) {
        return Err(within.wrong("is for numbers and times only"));
    }
    Ok(Field { name, ours, theirs: path, kind })
}

fn tolerance(given: &At<'_>) -> Result<Tolerance, Wrong> {
    let wrong = || given.wrong("is a number such as 0.05, or a share such as \"5%\", and not below 0");
    let share =
        given.value.as_str().map(|text| text.strip_suffix('%').and_then(|text| text.trim().parse::<f64>().ok()));
    let tolerance = match share {
        Some(share) => Tolerance::Relative(share.ok_or_else(wrong)? / 100.0),
        None => Tolerance::Absolute(given.value.as_f64().ok_or_else(wrong)?),
    };
    let (Tolerance::Absolute(bound) | Tolerance::Relative(bound)) = tolerance;
    if bound.is_finite() && bound >= 0.0 { Ok(tolerance) } else { Err(wrong()) }
}

fn conditions(given: Option<At<'_>>) -> Result<Vec<Condition>, Wrong> {
    given.map_or_else(|| Ok(Vec::new()), |given| given.list()?.iter().map(condition).collect())
}

fn condition(given: &At<'_>) -> Result<Condition, Wrong> {
    let fields = given.fields(&["path", "is"])?;
    let path = fields.required("path", "the path to compare")?.path()?;
    let is = match fields.optional("is") {
        None => Vec::new(),
        Some(given) => match given.value {
            Value::Array(_) => given.several()?.iter().map(At::scalar).collect::<Result<_, _>>()?,
            _ => vec![given.scalar()?],
        },
    };
    Ok(Condition { path, is })
}

/// Of an event there is only so much; of a table, the database says.
fn in_event(source: &Source, path: &Path) -> Result<(), String> {
    const THERE: [&str; 7] = ["id", "type", "aggregate_type", "aggregate_id", "payload", "metadata", "version"];
    match source {
        Source::Events { .. } if !THERE.contains(&path.first()) => {
            Err(format!("\"{path}\" is nothing of an event: there is {}", THERE.join(", ")))
        }
        _ => Ok(()),
    }
}

/// Names become a part of statements and of reports.
fn legible(name: &str) -> Result<(), String> {
    if name.trim().is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
        Err("is a name of at most 200 characters in one line".into())
    } else {
        Ok(())
    }
}

/// A value, and the key that it stands at.
#[derive(Debug, Clone)]
struct At<'v> {
    key: String,
    value: &'v Value,
}

/// The fields of an object whose names are all known.
struct Fields<'v> {
    at: At<'v>,
    fields: &'v Map<String, Value>,
}

impl<'v> At<'v> {
    fn child(&self, name: &str, value: &'v Value) -> Self {
        let key = if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) };
        Self { key, value }
    }

    fn wrong(&self, problem: impl Into<String>) -> Wrong {
        let key = if self.key.is_empty() { "the mapping".to_owned() } else { self.key.clone() };
        Wrong { key, problem: problem.into() }
    }

    /// An object without unknown fields: a field that does nothing is a mistake that would go unseen.
    fn fields(&self, known: &[&str]) -> Result<Fields<'v>, Wrong> {
        let Value::Object(fields) = self.value else {
            return Err(self.wrong(format!("is a table with {}", known.join(", "))));
        };
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => {
                let unknown: String = unknown.chars().take(100).collect();
                Err(self.wrong(format!("there is no {unknown:?} here: there is {}", known.join(", "))))
            }
            None => Ok(Fields { at: self.clone(), fields }),
        }
    }

    fn list(&self) -> Result<Vec<Self>, Wrong> {
        match self.value {
            Value::Array(list) if list.len() <= MOST => Ok(list
                .iter()
                .enumerate()
                .map(|(place, value)| Self { key: format!("{}[{place}]", self.key), value })
                .collect()),
            _ => Err(self.wrong(format!("is a list of at most {MOST}"))),
        }
    }

    fn several(&self) -> Result<Vec<Self>, Wrong> {
        let list = self.list()?;
        if list.is_empty() { Err(self.wrong("is empty")) } else { Ok(list) }
    }

    fn text(&self) -> Result<&'v str, Wrong> {
        self.value.as_str().ok_or_else(|| self.wrong("is a text"))
    }

    fn truth(&self) -> Result<bool, Wrong> {
        self.value.as_bool().ok_or_else(|| self.wrong("is true or false"))
    }

    fn name(&self) -> Result<String, Wrong> {
        let text = self.text()?;
        legible(text).map_err(|problem| self.wrong(problem))?;
        Ok(text.to_owned())
    }

    fn parsed<T: FromStr<Err = String>>(&self) -> Result<T, Wrong> {
        self.text()?.parse().map_err(|problem: String| self.wrong(problem))
    }

    /// Steps with dots between them; where a name has a dot itself, a list of steps.
    fn path(&self) -> Result<Path, Wrong> {
        let steps = match self.value {
            Value::Array(_) => self.several()?.iter().map(Self::name).collect::<Result<_, _>>()?,
            _ => self.name()?.split('.').map(ToOwned::to_owned).collect(),
        };
        Path::of(steps).ok_or_else(|| self.wrong("is a path such as \"sentiment.score\""))
    }

    fn scalar(&self) -> Result<String, Wrong> {
        match self.value {
            Value::String(_) | Value::Number(_) | Value::Bool(_) => {
                Ok(crate::kind::text(self.value).unwrap_or_default())
            }
            _ => Err(self.wrong("is a text, a number, true or false")),
        }
    }
}

impl<'v> Fields<'v> {
    fn optional(&self, name: &str) -> Option<At<'v>> {
        self.fields.get(name).map(|value| self.at.child(name, value))
    }

    fn required(&self, name: &str, what: &str) -> Result<At<'v>, Wrong> {
        self.optional(name).ok_or_else(|| self.at.wrong(format!("{name:?} is missing: {what}")))
    }

    fn none_of(&self, names: &[&str], problem: &str) -> Result<(), Wrong> {
        names.iter().find_map(|name| self.optional(name)).map_or(Ok(()), |given| Err(given.wrong(problem)))
    }

    fn wrong(&self, name: &str, problem: impl Into<String>) -> Wrong {
        self.at.child(name, &Value::Null).wrong(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn whole() -> Value {
        json!({
            "wait": "2m",
            "early": "5s",
            "answers": [
                {
                    "name": "analysis",
                    "ours": { "effect": "any", "nothing": [{ "path": "sentiment.label", "is": ["neutral", "unknown"] }] },
                    "theirs": {
                        "schema": "legacy", "table": "Sentiment Rows", "at": "analyzed_at", "overwritten": true,
                        "key": { "post_id": "aggregate_id", "tenant": "payload.tenant.id" },
                        "only": [{ "path": "deleted_at" }]
                    },
                    "fields": [
                        { "ours": "sentiment.score", "theirs": "score", "as": "number", "within": 0.05 },
                        { "name": "share", "ours": ["a.b", "c"], "theirs": "data.c", "as": "number", "within": "5%" },
                        { "ours": "at", "theirs": "at", "as": "time", "within": "2s" }
                    ],
                    "unmatched": "ignore"
                },
                { "name": "said", "ours": { "event": "sentiment.analyzed", "nth": 2 }, "theirs": { "event": "old.said", "by": "causation" } }
            ]
        })
    }

    #[test]
    fn a_complete_mapping_is_read() {
        let mapping = Mapping::read(&whole()).unwrap();
        assert_eq!((mapping.wait.millis, mapping.early.millis, mapping.answers.len()), (120_000, 5_000, 2));
        let analysis = &mapping.answers[0];
        assert_eq!(analysis.ours.what, What::Effect(None));
        let Source::Table { schema, table, key, at, overwritten } = &analysis.theirs.source else { panic!() };
        assert_eq!((schema.as_str(), table.as_str(), at.as_str()), ("legacy", "Sentiment Rows", "analyzed_at"));
        assert_eq!(*overwritten, Some(true));
        assert_eq!(key[1], ("tenant".into(), KeyPart::Payload(vec!["tenant".into(), "id".into()])));
        assert_eq!(analysis.theirs.only[0].is, Vec::<String>::new());
        assert_eq!(analysis.fields[0].kind, Kind::Number(Tolerance::Absolute(0.05)));
        assert_eq!(
            (analysis.fields[1].name.as_str(), analysis.fields[1].kind),
            ("share", Kind::Number(Tolerance::Relative(0.05)))
        );
        assert_eq!(analysis.fields[1].ours.to_string(), "a.b.c");
        assert_eq!(analysis.fields[2].kind, Kind::Time(Span { millis: 2_000 }));
        assert!(!analysis.unmatched && mapping.answers[1].unmatched);
        assert_eq!((mapping.answers[1].ours.nth, mapping.answers[1].theirs.source.key()), (2, vec![KeyPart::Id]));
        assert!(analysis.theirs.source.is_shared() && !mapping.answers[1].theirs.source.is_shared());
    }

    #[test]
    fn an_error_of_a_mapping_names_its_key_and_the_alternatives() {
        for (pointer, value, key, says) in [
            ("/wait", json!("soon"), "wait", "90s"),
            ("/wait", json!("0s"), "wait", "more than 0"),
            ("/wait", json!("25h"), "wait", "24h"),
            ("/early", json!("3m"), "early", "wait"),
            ("/answers", json!([]), "answers", "empty"),
            ("/answers", json!({}), "answers", "list"),
            ("/answers/1/name", json!("analysis"), "answers[1].name", "another"),
            ("/answers/1/name", json!("a\nb"), "answers[1].name", "one line"),
            ("/answers/0/ours", json!({}), "answers[0].ours", "one of the two"),
            ("/answers/1/ours/nth", json!(0), "answers[1].ours.nth", "from 1"),
            ("/answers/0/theirs", json!("old"), "answers[0].theirs", "table"),
            ("/answers/0/theirs/key", json!({}), "answers[0].theirs.key", "one to four"),
            ("/answers/0/theirs/key/post_id", json!("payload"), "answers[0].theirs.key.post_id", "correlation_id"),
            ("/answers/0/theirs/at", json!(7), "answers[0].theirs.at", "text"),
            ("/answers/0/theirs/overwritten", json!("yes"), "answers[0].theirs.overwritten", "true or false"),
            ("/answers/1/theirs/by", json!("chance"), "answers[1].theirs.by", "causation"),
            ("/answers/0/theirs/only/0", json!({ "is": 1 }), "answers[0].theirs.only[0]", "path"),
            ("/answers/0/theirs/only/0/path", json!(""), "answers[0].theirs.only[0].path", "name"),
            ("/answers/0/ours/nothing/0/is/1", json!([]), "answers[0].ours.nothing[0].is[1]", "text"),
            ("/answers/0/fields/0/as", json!("float"), "answers[0].fields[0].as", "number"),
            ("/answers/0/fields/0/within", json!(-1), "answers[0].fields[0].within", "below 0"),
            ("/answers/0/fields/1/within", json!("5"), "answers[0].fields[1].within", "5%"),
            ("/answers/0/fields/2/within", json!(2), "answers[0].fields[2].within", "text"),
            ("/answers/0/fields/0/ours", json!("a..b"), "answers[0].fields[0].ours", "path"),
            ("/answers/0/unmatched", json!(true), "answers[0].unmatched", "text"),
        ] {
            let mut given = whole();
            *given.pointer_mut(pointer).unwrap() = value;
            let wrong = Mapping::read(&given).unwrap_err();
            assert!(wrong.key == key && wrong.problem.contains(says), "{pointer}: {wrong}");
        }
    }

    #[test]
    fn missing_unknown_and_misplaced_keys_are_reported() {
        let without = |pointer: &str, name: &str| {
            let mut given = whole();
            given.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(name).unwrap();
            Mapping::read(&given).unwrap_err().to_string()
        };
        assert!(without("", "wait").starts_with("the mapping: \"wait\" is missing"));
        assert!(without("/answers/0/theirs", "at").starts_with("answers[0].theirs: \"at\" is missing"));
        assert!(without("/answers/0/fields/0", "theirs").starts_with("answers[0].fields[0]: \"theirs\" is missing"));
        let with = |pointer: &str, name: &str, value: Value| {
            let mut given = whole();
            given.pointer_mut(pointer).unwrap().as_object_mut().unwrap().insert(name.into(), value);
            Mapping::read(&given).unwrap_err().to_string()
        };
        assert!(with("/answers/0", "filds", json!([])).contains("\"filds\""));
        assert!(with("/answers/1/theirs", "at", json!("x")).starts_with("answers[1].theirs.at: is for a table"));
        assert!(with("/answers/1/theirs", "overwritten", json!(true)).contains("is for a table"));
        assert!(with("/answers/0/theirs", "by", json!("x")).starts_with("answers[0].theirs.by: is for an event"));
        let fields = json!([{ "ours": "a", "theirs": "label" }]);
        assert!(
            with("/answers/1", "fields", fields)
                .starts_with("answers[1].fields[0].theirs: \"label\" is nothing of an event")
        );
        let text = json!([{ "ours": "a", "theirs": "payload.a", "within": 1 }]);
        assert!(with("/answers/1", "fields", text).contains("numbers and times"));
        assert!(Mapping::read(&json!([])).unwrap_err().to_string().starts_with("the mapping: is a table"));
    }
}
