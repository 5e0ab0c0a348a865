//! What the steward can be asked: the JSON of an invocation as a request.

use crate::{
    advise,
    backfill::BackfillRequest,
    compare::CompareRequest,
    cutover::CutoverRequest,
    delays::DelaysRequest,
    routing::{Pin, RouteRequest},
};
use serde_json::{Map, Value};
use switchyard_advice::Wishes;
use switchyard_store::BreakerState;

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// A pass now: what the schedule asks for, and an invocation with nothing to say.
    Pass,
    /// How everything stands. Changes nothing.
    Status,
    /// When to move at all, for what is wanted. Changes nothing.
    Advise(Wishes),
    /// The figures of a team's own page. Changes nothing.
    Metrics,
    /// What is set aside in the outbox. Changes nothing.
    Outbox,
    /// Lets the shim try again what was set aside.
    CarryAgain {
        /// Which events, by their sequence; all of them where none is named.
        seqs: Vec<i64>,
        /// Who asks, for the audit.
        operator: String,
    },
    /// Sets an agent's breaker by hand, or sets it free.
    Breaker {
        /// Whose.
        agent: String,
        /// What it is to be; `None` sets it free.
        set: Option<BreakerState>,
        /// Who asks, for the audit.
        operator: String,
    },
    /// Shows or moves the lever of an agent's migration.
    Route(RouteRequest),
    /// Pins a project to one side of it.
    Pin(Pin),
    /// Shows what waits for its time, or cancels some of it.
    Delays(DelaysRequest),
    /// How agents in shadow mode compare with the old system, or with what one is compared.
    Compare(Box<CompareRequest>),
    /// Looks at a cutover plan, starts or moves it.
    Cutover(Box<CutoverRequest>),
    /// Looks at a backfill, starts or moves it.
    Backfill(Box<BackfillRequest>),
}

/// What there is to ask, for whoever asked for something else.
const THERE_IS: &str = r#"there is {"action":"pass"}, {"action":"status"}, {"action":"metrics"}, {"action":"advise"}, {"action":"outbox"}, {"action":"carry_again","seqs":[SEQ,...],"operator":WHO} (all without seqs) and {"action":"breaker","agent":NAME,"set":"open"|"closed"|"auto","operator":WHO}; and "routing", "pin", "delays", "compare", "cutover" and "backfill" (each says more)"#;

impl Request {
    /// Reads the event of an invocation. The schedule's (it has a `source` of AWS's) and an empty one ask for a pass.
    ///
    /// # Errors
    /// One line that names what is wrong and what there is instead.
    pub fn of(event: &Value) -> Result<Self, String> {
        let nothing = Map::new();
        let fields = match event {
            Value::Null => &nothing,
            Value::Object(fields) => fields,
            _ => return Err(format!("a request is a JSON object: {THERE_IS}")),
        };
        let scheduled = fields.get("source").and_then(Value::as_str).is_some_and(|source| source.starts_with("aws."));
        let action = match fields.get("action") {
            None if fields.is_empty() || scheduled => return Ok(Self::Pass),
            action => action.and_then(Value::as_str).unwrap_or_default(),
        };
        match action {
            "pass" => only(fields, &[]).map(|()| Self::Pass),
            "status" => only(fields, &[]).map(|()| Self::Status),
            "advise" => advise::wishes(fields).map(Self::Advise),
            "metrics" => only(fields, &[]).map(|()| Self::Metrics),
            "outbox" => only(fields, &[]).map(|()| Self::Outbox),
            "carry_again" => Self::carry_again(fields),
            "breaker" => Self::breaker(fields),
            "routing" => RouteRequest::of(fields).map(Self::Route),
            "pin" => Pin::of(fields).map(Self::Pin),
            "delays" => DelaysRequest::of(fields).map(Self::Delays),
            "compare" => CompareRequest::of(fields).map(|request| Self::Compare(Box::new(request))),
            "cutover" => CutoverRequest::of(fields).map(|request| Self::Cutover(Box::new(request))),
            "backfill" => BackfillRequest::of(fields).map(|request| Self::Backfill(Box::new(request))),
            other => Err(format!("there is no action {:?}: {THERE_IS}", cut(other))),
        }
    }

    fn carry_again(fields: &Map<String, Value>) -> Result<Self, String> {
        only(fields, &["seqs", "operator"])?;
        let not_numbers = || format!("\"seqs\" is no list of numbers, or an empty one: {THERE_IS}");
        let seqs = match fields.get("seqs") {
            None => Vec::new(),
            // An empty list is not everything: whoever selects nothing wants nothing done.
            Some(Value::Array(seqs)) if !seqs.is_empty() => {
                seqs.iter().map(|seq| seq.as_i64().ok_or_else(not_numbers)).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(not_numbers()),
        };
        Ok(Self::CarryAgain { seqs, operator: named(fields, "operator")?.to_owned() })
    }

    fn breaker(fields: &Map<String, Value>) -> Result<Self, String> {
        only(fields, &["agent", "set", "operator"])?;
        let set = match named(fields, "set")? {
            "open" => Some(BreakerState::Open),
            "closed" => Some(BreakerState::Closed),
            "auto" => None,
            other => return Err(format!("a breaker cannot be set to {:?}: {THERE_IS}", cut(other))),
        };
        let (agent, operator) = (named(fields, "agent")?.to_owned(), named(fields, "operator")?.to_owned());
        Ok(Self::Breaker { agent, set, operator })
    }
}

fn named<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    let value = fields.get(name).and_then(Value::as_str).unwrap_or_default();
    is_name(name, value).map(|()| value).map_err(|wrong| format!("{wrong}: {THERE_IS}"))
}

/// Whether a field holds a name: the audit's readers see it, so there is nothing in it that breaks their lines.
///
/// # Errors
/// One line that says what a name is.
pub(crate) fn is_name(field: &str, value: &str) -> Result<(), String> {
    if !value.trim().is_empty() && value.chars().count() <= 200 && !value.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(format!("{field:?} is missing, or no text of at most 200 characters in one line"))
    }
}

/// As much of it as an answer repeats: whoever asked knows the rest.
fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

/// A field that does nothing is a mistake that would go unseen.
fn only(fields: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match fields.keys().find(|name| *name != "action" && !known.contains(&name.as_str())) {
        Some(unknown) => Err(format!("there is no field {:?}: {THERE_IS}", cut(unknown))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_schedule_and_an_invocation_with_nothing_to_say_ask_for_a_pass() {
        let scheduled =
            json!({ "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}, "version": "0" });
        for event in [scheduled, json!({}), Value::Null, json!({ "action": "pass" })] {
            assert_eq!(Request::of(&event), Ok(Request::Pass), "{event}");
        }
    }

    #[test]
    fn a_breaker_is_opened_closed_or_set_free_by_somebody_with_a_name() {
        let asked = |set: &str| {
            Request::of(&json!({ "action": "breaker", "agent": "duplicate", "set": set, "operator": "ada" }))
        };
        let breaker = |set| Ok(Request::Breaker { agent: "duplicate".into(), set, operator: "ada".into() });
        assert_eq!(asked("open"), breaker(Some(BreakerState::Open)));
        assert_eq!(asked("closed"), breaker(Some(BreakerState::Closed)));
        assert_eq!(asked("auto"), breaker(None));
    }

    #[test]
    fn what_was_set_aside_is_carried_again_all_of_it_or_what_is_named() {
        let asked = |seqs: Option<Value>| {
            let mut request = json!({ "action": "carry_again", "operator": "ada" });
            request.as_object_mut().unwrap().extend(seqs.map(|seqs| ("seqs".to_owned(), seqs)));
            Request::of(&request)
        };
        let again = |seqs: &[i64]| Ok(Request::CarryAgain { seqs: seqs.to_vec(), operator: "ada".into() });
        assert_eq!(asked(None), again(&[]));
        assert_eq!(asked(Some(json!([7, 9]))), again(&[7, 9]));
        for none in [json!([]), json!([1.5]), json!(["7"]), json!(7), Value::Null] {
            assert!(asked(Some(none.clone())).unwrap_err().contains("seqs"), "{none}");
        }
        assert_eq!(Request::of(&json!({ "action": "outbox" })), Ok(Request::Outbox));
    }

    #[test]
    fn what_is_not_understood_is_answered_with_what_there_is() {
        for (event, names) in [
            (json!([]), "object"),
            (json!({ "action": "dance" }), "dance"),
            (json!({ "action": 7 }), "\"\""),
            (json!({ "agent": "duplicate" }), "\"\""),
            (json!({ "action": "status", "agnet": "x" }), "agnet"),
            (json!({ "action": "breaker", "agent": "duplicate", "set": "ajar", "operator": "ada" }), "ajar"),
            (json!({ "action": "breaker", "agent": "duplicate", "set": "open" }), "operator"),
            (json!({ "action": "carry_again" }), "operator"),
            (json!({ "action": "breaker", "agent": "a", "set": "open", "operator": "a\nb" }), "operator"),
            (json!({ "action": "breaker", "agent": "a", "set": "open", "operator": " " }), "operator"),
            (json!({ "action": "breaker", "agent": "a", "set": "open", "operator": "x".repeat(201) }), "operator"),
            (json!({ "action": "breaker", "agent": "", "set": "open", "operator": "ada" }), "agent"),
        ] {
            let error = Request::of(&event).unwrap_err();
            assert!(error.contains(names) && error.contains("status"), "{event}: {error}");
        }
    }
}
