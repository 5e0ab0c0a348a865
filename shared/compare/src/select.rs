//! The agent's side: what of its decision answers the event.

use crate::mapping::{Ours, What};
use serde_json::Value;

/// The effect or event that counts; none where the decision has none, was refused, or what it has is as good as nothing.
pub(crate) fn ours<'d>(ours: &Ours, decision: &'d Value) -> Option<&'d Value> {
    let place = ours.nth.checked_sub(1)?;
    let found = match &ours.what {
        What::Effect(kind) => {
            elements(decision, "effects").filter_map(|effect| of_kind(effect, kind.as_deref())).nth(place)
        }
        What::Event(event_type) => {
            elements(decision, "events").filter(|event| event["type"] == event_type.as_str()).nth(place)
        }
    }?;
    let nothing = ours.nothing.iter().any(|condition| condition.holds(condition.path.in_value(found)));
    (!nothing).then_some(found)
}

fn elements<'d>(decision: &'d Value, name: &str) -> impl Iterator<Item = &'d Value> {
    decision[name].as_array().into_iter().flatten()
}

/// An effect of a kind, without the kind's name. An enum's variant is written `{"Kind": …}`, one without fields `"Kind"`.
fn of_kind<'d>(effect: &'d Value, kind: Option<&str>) -> Option<&'d Value> {
    let Some(kind) = kind else { return Some(effect) };
    match effect {
        Value::Object(fields) if fields.len() == 1 => fields.get(kind),
        Value::String(name) if name == kind => Some(effect),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Condition, Path};
    use serde_json::json;

    fn side(what: What, nth: usize) -> Ours {
        Ours { what, nth, nothing: Vec::new() }
    }

    #[test]
    fn an_effect_is_found_by_its_kind_and_its_place() {
        let decision = json!({ "effects": [{ "Move": { "to": 1 } }, { "Merge": { "id": 2 } }, { "Move": { "to": 3 } }, "Close"], "events": [] });
        let find = |kind: Option<&str>, nth| ours(&side(What::Effect(kind.map(ToOwned::to_owned)), nth), &decision);
        assert_eq!(find(Some("Move"), 2), Some(&json!({ "to": 3 })));
        assert_eq!(find(Some("Move"), 3), None);
        assert_eq!(find(Some("Close"), 1), Some(&json!("Close")));
        assert_eq!(find(None, 2), Some(&json!({ "Merge": { "id": 2 } })));
    }

    #[test]
    fn an_event_is_found_by_its_type() {
        let said = json!({ "type": "b", "payload": {} });
        let decision = json!({ "effects": [], "events": [{ "type": "a" }, said] });
        assert_eq!(ours(&side(What::Event("b".into()), 1), &decision), Some(&said));
        assert_eq!(ours(&side(What::Event("c".into()), 1), &decision), None);
    }

    #[test]
    fn a_refusal_counts_as_nothing_and_so_do_the_values_of_nothing() {
        assert_eq!(ours(&side(What::Effect(None), 1), &json!({ "refused": "no_text" })), None);
        let path = Path::of(vec!["label".into()]).unwrap();
        let nothing = vec![Condition { path, is: vec!["neutral".into()] }];
        let side = Ours { nothing, ..side(What::Effect(None), 1) };
        assert_eq!(ours(&side, &json!({ "effects": [{ "label": "neutral" }] })), None);
        assert!(ours(&side, &json!({ "effects": [{ "label": "bad" }] })).is_some());
    }
}
