//! What the steward can be asked.

use crate::{
    advise,
    backfill::BackfillRequest,
    breaker::BreakerState,
    check::{cut, named, only},
    compare::CompareRequest,
    cutover::CutoverRequest,
    delays::DelaysRequest,
    routing::{Pin, RouteRequest},
};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use switchyard_advice::Wishes;

/// A request. `action` names it in JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Request {
    /// A pass now: what the schedule asks for, and an invocation with nothing to say.
    Pass,
    /// How everything stands. Changes nothing.
    Status,
    /// When to move at all, for what is wanted. Changes nothing.
    Advise(Wishes),
    /// The figures of a team's own page. Changes nothing.
    Metrics,
    /// What could not be published. Changes nothing.
    Outbox,
    /// Lets the shim try again what could not be published.
    RetryPublishing {
        /// Which events, by their sequence; all of them where none is named.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        seqs: Vec<i64>,
        /// Who asks, for the audit.
        operator: String,
    },
    /// Forces an agent's breaker, or ends the force.
    Breaker {
        /// Whose.
        agent: String,
        /// What it is to be; `None` sets it free.
        #[serde(serialize_with = "set_to")]
        set: Option<BreakerState>,
        /// Who asks, for the audit.
        operator: String,
    },
    /// Shows or changes the routing of an agent.
    #[serde(rename = "routing")]
    Route(RouteRequest),
    /// Pins a project to one side of it.
    Pin(Pin),
    /// Shows what waits for its time, or cancels some of it.
    Delays(DelaysRequest),
    /// How agents in shadow mode compare with the old system, or with what one is compared.
    Compare(Box<CompareRequest>),
    /// Shows a cutover plan, starts or changes it.
    Cutover(Box<CutoverRequest>),
    /// Shows a backfill, starts or changes it.
    Backfill(Box<BackfillRequest>),
}

fn set_to<S: Serializer>(set: &Option<BreakerState>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(set.map_or("auto", BreakerState::name))
}

/// The valid requests, for the error of an invalid one.
const THERE_IS: &str = r#"there is {"action":"pass"}, {"action":"status"}, {"action":"metrics"}, {"action":"advise"}, {"action":"outbox"}, {"action":"retry_publishing","seqs":[SEQ,...],"operator":WHO} (all without seqs) and {"action":"breaker","agent":NAME,"set":"open"|"closed"|"auto","operator":WHO}; and "routing", "pin", "delays", "compare", "cutover" and "backfill" (each says more)"#;

impl Request {
    /// Reads the event of an invocation. The schedule's (it has a `source` of AWS's) and an empty one ask for a pass.
    ///
    /// # Errors
    /// One line that names what is wrong and what there is instead.
    pub fn parse(event: &Value) -> Result<Self, String> {
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
            "pass" => only(fields, &[]).map(|()| Self::Pass).map_err(with_choices),
            "status" => only(fields, &[]).map(|()| Self::Status).map_err(with_choices),
            "advise" => advise::wishes(fields).map(Self::Advise),
            "metrics" => only(fields, &[]).map(|()| Self::Metrics).map_err(with_choices),
            "outbox" => only(fields, &[]).map(|()| Self::Outbox).map_err(with_choices),
            "retry_publishing" => Self::retry_publishing(fields).map_err(with_choices),
            "breaker" => Self::breaker(fields).map_err(with_choices),
            "routing" => RouteRequest::of(fields).map(Self::Route),
            "pin" => Pin::of(fields).map(Self::Pin),
            "delays" => DelaysRequest::of(fields).map(Self::Delays),
            "compare" => CompareRequest::of(fields).map(|request| Self::Compare(Box::new(request))),
            "cutover" => CutoverRequest::of(fields).map(|request| Self::Cutover(Box::new(request))),
            "backfill" => BackfillRequest::of(fields).map(|request| Self::Backfill(Box::new(request))),
            other => Err(format!("there is no action {:?}: {THERE_IS}", cut(other))),
        }
    }

    fn retry_publishing(fields: &Map<String, Value>) -> Result<Self, String> {
        only(fields, &["seqs", "operator"])?;
        let not_numbers = || "\"seqs\" is no list of numbers, or an empty one".to_owned();
        let seqs = match fields.get("seqs") {
            None => Vec::new(),
            // An empty list is not everything: it selects nothing.
            Some(Value::Array(seqs)) if !seqs.is_empty() => {
                seqs.iter().map(|seq| seq.as_i64().ok_or_else(not_numbers)).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(not_numbers()),
        };
        Ok(Self::RetryPublishing { seqs, operator: named(fields, "operator")? })
    }

    fn breaker(fields: &Map<String, Value>) -> Result<Self, String> {
        only(fields, &["agent", "set", "operator"])?;
        let set = match named(fields, "set")?.as_str() {
            "open" => Some(BreakerState::Open),
            "closed" => Some(BreakerState::Closed),
            "auto" => None,
            other => return Err(format!("a breaker cannot be set to {:?}", cut(other))),
        };
        Ok(Self::Breaker { agent: named(fields, "agent")?, set, operator: named(fields, "operator")? })
    }
}

fn with_choices(wrong: String) -> String {
    format!("{wrong}: {THERE_IS}")
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
            assert_eq!(Request::parse(&event), Ok(Request::Pass), "{event}");
        }
    }

    #[test]
    fn setting_a_breaker_needs_an_operator() {
        let asked = |set: &str| {
            Request::parse(&json!({ "action": "breaker", "agent": "duplicate", "set": set, "operator": "ada" }))
        };
        let breaker = |set| Ok(Request::Breaker { agent: "duplicate".into(), set, operator: "ada".into() });
        assert_eq!(asked("open"), breaker(Some(BreakerState::Open)));
        assert_eq!(asked("closed"), breaker(Some(BreakerState::Closed)));
        assert_eq!(asked("auto"), breaker(None));
    }

    #[test]
    fn publishing_is_retried_for_all_events_or_for_those_named() {
        let asked = |seqs: Option<Value>| {
            let mut request = json!({ "action": "retry_publishing", "operator": "ada" });
            request.as_object_mut().unwrap().extend(seqs.map(|seqs| ("seqs".to_owned(), seqs)));
            Request::parse(&request)
        };
        let again = |seqs: &[i64]| Ok(Request::RetryPublishing { seqs: seqs.to_vec(), operator: "ada".into() });
        assert_eq!(asked(None), again(&[]));
        assert_eq!(asked(Some(json!([7, 9]))), again(&[7, 9]));
        for none in [json!([]), json!([1.5]), json!(["7"]), json!(7), Value::Null] {
            assert!(asked(Some(none.clone())).unwrap_err().contains("seqs"), "{none}");
        }
        assert_eq!(Request::parse(&json!({ "action": "outbox" })), Ok(Request::Outbox));
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
            (json!({ "action": "retry_publishing" }), "operator"),
            (json!({ "action": "breaker", "agent": "a", "set": "open", "operator": "a\nb" }), "operator"),
            (json!({ "action": "breaker", "agent": "a", "set": "open", "operator": " " }), "operator"),
            (json!({ "action": "breaker", "agent": "a", "set": "open", "operator": "x".repeat(201) }), "operator"),
            (json!({ "action": "breaker", "agent": "", "set": "open", "operator": "ada" }), "agent"),
        ] {
            let error = Request::parse(&event).unwrap_err();
            assert!(error.contains(names) && error.contains("status"), "{event}: {error}");
        }
    }

    #[test]
    fn a_request_survives_the_way_there() {
        use crate::{
            backfill::{self, BackfillSelection},
            compare::Period,
            cutover,
            delays::Delays,
            routing::{Mode, Owner},
        };
        let (agent, operator) = ("sentiment".to_owned(), "ada".to_owned());
        let route = |mode, drain, beside, operator: &str| {
            Request::Route(RouteRequest { agent: agent.clone(), mode, drain, beside, operator: operator.into() })
        };
        let pin = |to| Request::Pin(Pin { agent: agent.clone(), project: "p".into(), to, operator: operator.clone() });
        let breaker = |set| Request::Breaker { agent: agent.clone(), set, operator: operator.clone() };
        let compare = |request| Request::Compare(Box::new(request));
        let report = |values| {
            let since = Some("2026-01-05T09:00:00Z".to_owned());
            compare(CompareRequest::Report { agent: agent.clone(), since, by: Period::Day, examples: 5, values })
        };
        let requests = [
            Request::Pass,
            Request::Status,
            Request::Advise(Wishes { regions: Some(2), ..Wishes::default() }),
            Request::Advise(Wishes::default()),
            Request::Metrics,
            Request::Outbox,
            Request::RetryPublishing { seqs: vec![], operator: operator.clone() },
            Request::RetryPublishing { seqs: vec![7], operator: operator.clone() },
            breaker(Some(BreakerState::Open)),
            breaker(Some(BreakerState::Closed)),
            breaker(None),
            route(None, None, None, ""),
            route(None, Some(true), None, "ada"),
            route(Some(Mode::Percent(25)), Some(false), Some(true), "ada"),
            route(Some(Mode::Shadow), Some(false), Some(false), "ada"),
            pin(Some(Owner::New)),
            pin(Some(Owner::Old)),
            pin(None),
            Request::Delays(DelaysRequest::Show {
                which: Delays { types: vec!["a.b".into()], ..Delays::default() },
                at_most: 7,
            }),
            Request::Delays(DelaysRequest::Cancel {
                events: vec![uuid::Uuid::nil()],
                because: "gone".into(),
                operator: operator.clone(),
            }),
            compare(CompareRequest::Overview { since: None }),
            report(None),
            report(Some(operator.clone())),
            compare(CompareRequest::Set {
                agent: agent.clone(),
                mapping: json!({ "wait": "1m" }),
                operator: operator.clone(),
            }),
            compare(CompareRequest::Drop { agent: agent.clone(), operator: operator.clone() }),
            Request::Cutover(Box::new(CutoverRequest {
                agent: agent.clone(),
                act: cutover::Act::Pause,
                plan: None,
                because: "enough".into(),
                operator: operator.clone(),
            })),
            Request::Backfill(Box::new(BackfillRequest {
                agent: agent.clone(),
                act: backfill::Act::Start,
                selection: Some(BackfillSelection {
                    types: vec![],
                    projects: vec!["p".into()],
                    since: "2026-01-05T09:00:00Z".into(),
                    until: None,
                }),
                per_second: Some(5),
                operator,
            })),
        ];
        for request in requests {
            let json = serde_json::to_value(&request).unwrap();
            assert_eq!(Request::parse(&json), Ok(request), "{json}");
        }
    }
}
