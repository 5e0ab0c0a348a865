//! What came of a comparison.

use crate::{
    mapping::{Answer, Mapping},
    select,
};
use serde_json::Value;

/// What was found of the old system's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A row, with the values that [`Answer::asked`] names, in its order.
    Row(Vec<Value>),
    /// Nothing, and the time for it is over.
    Nothing,
    /// Nothing before the next event of the same key.
    Overtaken,
}

/// How an event came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Both did the same, or nothing.
    Agreed,
    /// Both did something, and not the same; or one did only a part of what the other did.
    Differed,
    /// Only the old system did something.
    OnlyOld,
    /// Only the agent would have done something.
    OnlyNew,
    /// The next event of the same key came before any answer.
    Overtaken,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Agreed, Self::Differed, Self::OnlyOld, Self::OnlyNew, Self::Overtaken];

    /// Its name in the database and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agreed => "agreed",
            Self::Differed => "differed",
            Self::OnlyOld => "only_old",
            Self::OnlyNew => "only_new",
            Self::Overtaken => "overtaken",
        }
    }
}

/// A field that does not agree. Its values are payload: shown to who asks for them, never logged.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// `ANSWER.FIELD`; only the answer's name where one side has none at all, with `true` for the side that has one.
    pub field: String,
    /// The agent's value; null where there is none.
    pub ours: Value,
    /// The old system's; null where there is none.
    pub theirs: Value,
}

/// How an event came out, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// How.
    pub outcome: Outcome,
    /// What does not agree.
    pub differences: Vec<Difference>,
}

/// Compares a decision, as shadow mode has stored it, with what was heard of each answer of the mapping, in its order. An answer that
/// nothing was heard of counts as [`Heard::Nothing`].
#[must_use]
pub fn judge(mapping: &Mapping, decision: &Value, heard: &[Heard]) -> Finding {
    let heard = heard.iter().chain(std::iter::repeat(&Heard::Nothing));
    let parts: Vec<(&Answer, Finding)> = mapping
        .answers
        .iter()
        .zip(heard)
        .filter_map(|(answer, heard)| Some((answer, part(answer, decision, heard)?)))
        .collect();
    let outcome = together(&parts);
    let differences = parts.into_iter().flat_map(|(answer, part)| match (part.outcome, outcome) {
        // A part that only one side did: that it is missing says more than the fields that are missing with it.
        (Outcome::OnlyNew | Outcome::OnlyOld, Outcome::Differed) => vec![Difference {
            field: answer.name.clone(),
            ours: Value::Bool(part.outcome == Outcome::OnlyNew),
            theirs: Value::Bool(part.outcome == Outcome::OnlyOld),
        }],
        _ => part.differences,
    });
    Finding { outcome, differences: differences.collect() }
}

/// One answer; none where neither side did anything about it.
fn part(answer: &Answer, decision: &Value, heard: &Heard) -> Option<Finding> {
    let ours = select::ours(&answer.ours, decision);
    let theirs = match heard {
        Heard::Row(values) if !is_nothing(answer, values) => Some(values.as_slice()),
        Heard::Row(_) | Heard::Nothing => None,
        Heard::Overtaken => return Some(Finding { outcome: Outcome::Overtaken, differences: Vec::new() }),
    };
    let outcome = match (ours, theirs) {
        (None, None) => return None,
        (Some(_), None) => Outcome::OnlyNew,
        (None, Some(_)) => Outcome::OnlyOld,
        (Some(_), Some(_)) => Outcome::Differed,
    };
    let differences: Vec<Difference> = answer
        .fields
        .iter()
        .enumerate()
        .map(|(place, field)| {
            (field, ours.map_or(&Value::Null, |item| field.ours.in_value(item)), value(theirs, place))
        })
        .filter(|(field, ours, theirs)| !field.kind.agrees(ours, theirs))
        .map(|(field, ours, theirs)| Difference {
            field: format!("{}.{}", answer.name, field.name),
            ours: ours.clone(),
            theirs: theirs.clone(),
        })
        .collect();
    let outcome = if outcome == Outcome::Differed && differences.is_empty() { Outcome::Agreed } else { outcome };
    Some(Finding { outcome, differences })
}

/// What makes a row nothing stands behind its fields.
fn is_nothing(answer: &Answer, values: &[Value]) -> bool {
    let mut conditions = answer.theirs.nothing.iter().enumerate();
    conditions.any(|(place, condition)| condition.holds(value(Some(values), answer.fields.len() + place)))
}

fn value(values: Option<&[Value]>, place: usize) -> &Value {
    values.and_then(|values| values.get(place)).unwrap_or(&Value::Null)
}

/// All parts as one. A difference that is certain counts for more than a part that was overtaken.
fn together(parts: &[(&Answer, Finding)]) -> Outcome {
    let has = |outcome: Outcome| parts.iter().any(|(_, part)| part.outcome == outcome);
    let kinds = Outcome::ALL.into_iter().filter(|outcome| has(*outcome)).collect::<Vec<_>>();
    match kinds.as_slice() {
        [] => Outcome::Agreed,
        [all] => *all,
        [Outcome::Agreed, Outcome::Overtaken] => Outcome::Overtaken,
        _ => Outcome::Differed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn mapping() -> Mapping {
        Mapping::read(&json!({
            "wait": "1m",
            "answers": [
                {
                    "name": "row",
                    "ours": { "effect": "any" },
                    "theirs": { "table": "old", "key": { "id": "id" }, "at": "at", "nothing": [{ "path": "label", "is": "none" }] },
                    "fields": [
                        { "ours": "score", "theirs": "score", "as": "number", "within": 0.1 },
                        { "ours": "label", "theirs": "label" }
                    ]
                },
                { "name": "said", "ours": { "event": "told" }, "theirs": { "event": "old.told", "by": "causation" } }
            ]
        }))
        .unwrap()
    }

    fn decision(score: f64, label: &str, told: bool) -> Value {
        let events: Vec<Value> = told.then(|| json!({ "type": "told" })).into_iter().collect();
        json!({ "effects": [{ "score": score, "label": label }], "events": events })
    }

    fn row(score: f64, label: &str) -> Heard {
        Heard::Row(vec![json!(score), json!(label), json!(label)])
    }

    fn told() -> Heard {
        Heard::Row(Vec::new())
    }

    fn outcome(decision: &Value, heard: &[Heard]) -> Outcome {
        judge(&mapping(), decision, heard).outcome
    }

    fn fields(decision: &Value, heard: &[Heard]) -> Vec<String> {
        judge(&mapping(), decision, heard).differences.into_iter().map(|difference| difference.field).collect()
    }

    #[test]
    fn both_did_the_same_or_nothing() {
        assert_eq!(outcome(&decision(0.5, "good", true), &[row(0.55, "good"), told()]), Outcome::Agreed);
        assert_eq!(
            outcome(&json!({ "effects": [], "events": [] }), &[Heard::Nothing, Heard::Nothing]),
            Outcome::Agreed
        );
        assert_eq!(outcome(&json!({ "refused": "no_text" }), &[row(0.0, "none")]), Outcome::Agreed);
    }

    #[test]
    fn a_difference_names_its_field_with_both_values() {
        let finding = judge(&mapping(), &decision(0.5, "good", true), &[row(0.9, "good"), told()]);
        let expected = Difference { field: "row.score".into(), ours: json!(0.5), theirs: json!(0.9) };
        assert_eq!(finding, Finding { outcome: Outcome::Differed, differences: vec![expected] });
        assert_eq!(fields(&decision(0.5, "good", true), &[row(0.9, "bad"), told()]), ["row.score", "row.label"]);
    }

    #[test]
    fn work_of_one_side_only_has_its_own_outcome() {
        assert_eq!(outcome(&decision(0.5, "good", true), &[Heard::Nothing, Heard::Nothing]), Outcome::OnlyNew);
        assert_eq!(outcome(&decision(0.5, "good", true), &[row(0.5, "none"), Heard::Nothing]), Outcome::OnlyNew);
        assert_eq!(outcome(&json!({ "refused": "no_text" }), &[row(0.5, "good"), told()]), Outcome::OnlyOld);
        assert_eq!(outcome(&decision(0.5, "good", false), &[Heard::Nothing]), Outcome::OnlyNew);
    }

    #[test]
    fn half_an_answer_is_a_difference_that_names_the_half() {
        let heard = [row(0.5, "good"), Heard::Nothing];
        assert_eq!(outcome(&decision(0.5, "good", true), &heard), Outcome::Differed);
        assert_eq!(fields(&decision(0.5, "good", true), &heard), ["said"]);
        assert_eq!(outcome(&decision(0.5, "good", false), &[Heard::Nothing, told()]), Outcome::Differed);
    }

    #[test]
    fn an_overtaken_answer_is_no_difference_and_hides_none() {
        let both = decision(0.5, "good", true);
        assert_eq!(outcome(&both, &[Heard::Overtaken, Heard::Overtaken]), Outcome::Overtaken);
        assert_eq!(outcome(&both, &[row(0.5, "good"), Heard::Overtaken]), Outcome::Overtaken);
        assert_eq!(outcome(&both, &[row(0.5, "bad"), Heard::Overtaken]), Outcome::Differed);
    }

    proptest! {
        #[test]
        fn an_event_agrees_exactly_when_nothing_is_named(score in 0.0..1.0_f64, apart in -0.3..0.3_f64, same in any::<bool>(), said in any::<bool>(), heard in any::<bool>()) {
            let answer = if heard { told() } else { Heard::Nothing };
            let finding = judge(&mapping(), &decision(score, "good", said), &[row(score + apart, if same { "good" } else { "bad" }), answer]);
            prop_assert_eq!(finding.outcome == Outcome::Agreed, finding.differences.is_empty());
            prop_assert_eq!(finding.outcome == Outcome::Agreed, apart.abs() <= 0.1 && same && said == heard);
        }
    }
}
