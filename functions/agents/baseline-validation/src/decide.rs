//! Whether a model is better than its baseline: pure.

use crate::MODEL_READY_TO_DEPLOY;
use serde::{Deserialize, Serialize};
use switchyard_agent::{Decision, Reject};
use switchyard_event::{Event, NewEvent};

/// What was measured of a model.
#[derive(Debug, Deserialize)]
pub struct Evaluation {
    /// The model, as the registry calls it.
    pub model_id: String,
    /// What the model is about.
    pub token_symbol: String,
    /// What was measured.
    pub metric: String,
    /// What came out.
    pub value: f64,
}

/// What a model has to beat.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The value to beat, in the metric's own unit; none where the table has NaN or an infinity, which JSON has not.
    pub value: Option<f64>,
    /// Whether more is better; otherwise less is.
    pub higher_is_better: bool,
}

impl Baseline {
    /// The baseline with this value.
    #[must_use]
    pub fn new(value: f64, higher_is_better: bool) -> Self {
        Self { value: value.is_finite().then_some(value), higher_is_better }
    }
}

/// One row of `model_validations`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// The model.
    pub model_id: String,
    /// What it is about.
    pub token_symbol: String,
    /// What was measured.
    pub metric: String,
    /// What came out.
    pub value: f64,
    /// What it had to beat.
    pub baseline: f64,
    /// Whether it did.
    pub passed: bool,
}

impl Validation {
    /// What names the row. A model is judged by each metric for itself. The length keeps apart what would read alike.
    pub(crate) fn key(&self) -> String {
        format!("{}:{}:{}", self.model_id.len(), self.model_id, self.metric)
    }
}

/// What is said of a model that passed.
#[derive(Serialize)]
struct Ready<'a> {
    model_id: &'a str,
    token_symbol: &'a str,
    metric: &'a str,
    value: f64,
    baseline: f64,
}

pub(crate) fn decide(event: &Event, baseline: Option<Baseline>) -> Result<Decision<Validation>, Reject> {
    let evaluation: Evaluation = event.decode()?;
    let names = [
        ("model_id", &evaluation.model_id),
        ("token_symbol", &evaluation.token_symbol),
        ("metric", &evaluation.metric),
    ];
    if let Some((field, _)) = names.iter().find(|(_, name)| name.trim().is_empty()) {
        return Err(Reject::new("empty_field", format!("the evaluation's {field} is empty")));
    }
    let Some(baseline) = baseline else {
        return Err(Reject::new("no_baseline", "no baseline is set for this token and metric: set it, then redrive"));
    };
    let Some(value) = baseline.value else {
        return Err(Reject::new("bad_baseline", "the baseline of this token and metric is no finite number"));
    };
    let validation = Validation {
        // A model that only equals its baseline does not pass.
        passed: if baseline.higher_is_better { evaluation.value > value } else { evaluation.value < value },
        model_id: evaluation.model_id,
        token_symbol: evaluation.token_symbol,
        metric: evaluation.metric,
        value: evaluation.value,
        baseline: value,
    };
    let decision = Decision::nothing();
    let decision = if validation.passed { decision.event(ready(event, &validation)?) } else { decision };
    Ok(decision.effect(validation))
}

/// About the aggregate that was evaluated, whatever the registry calls it.
fn ready(event: &Event, validation: &Validation) -> Result<NewEvent, Reject> {
    let Validation { model_id, token_symbol, metric, value, baseline, .. } = validation;
    let payload = Ready { model_id, token_symbol, metric, value: *value, baseline: *baseline };
    Ok(NewEvent::new(MODEL_READY_TO_DEPLOY, &event.aggregate_type, &event.aggregate_id, &payload)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BaselineValidation;
    use proptest::prelude::*;
    use serde_json::json;
    use switchyard_agent::testing::given;

    fn sample() -> Event {
        Event::parse(include_str!("../events/better-forecast.json")).unwrap()
    }

    fn with_payload(payload: &serde_json::Value) -> Event {
        let event = sample();
        let aggregate = (event.aggregate_type.clone(), event.aggregate_id.clone());
        Event::from_parts(event.id, event.event_type, aggregate, payload.to_string(), 1, event.metadata).unwrap()
    }

    fn evaluated(value: f64) -> Event {
        with_payload(&json!({ "model_id": "m", "token_symbol": "BTC", "metric": "rmse", "value": value }))
    }

    fn at_least(value: f64) -> Option<Baseline> {
        Some(Baseline::new(value, true))
    }

    fn at_most(value: f64) -> Option<Baseline> {
        Some(Baseline::new(value, false))
    }

    fn passes(value: f64, baseline: Option<Baseline>) -> bool {
        let decision = given::<BaselineValidation>(&evaluated(value), baseline).decide();
        let [validation] = decision.effects.as_slice() else { panic!("one row for one evaluation") };
        assert_eq!(decision.events.len(), usize::from(validation.passed), "said if and only if it passed");
        validation.passed
    }

    #[test]
    fn a_model_that_beats_its_baseline_is_written_down_and_said_to_be_ready() {
        let decision = given::<BaselineValidation>(&sample(), at_most(0.05)).decide();
        let [validation] = decision.effects.as_slice() else { panic!("one row") };
        assert!(validation.passed);
        let [said] = decision.events.as_slice() else { panic!("one event") };
        assert_eq!(said.event_type, MODEL_READY_TO_DEPLOY);
        assert_eq!((said.aggregate_type.as_str(), said.aggregate_id.as_str()), ("model", "btc-forecast/2026-11-20"));
        let expected = json!({
            "model_id": "btc-forecast/2026-11-20", "token_symbol": "BTC", "metric": "rmse", "value": 0.0431, "baseline": 0.05,
        });
        assert_eq!(said.payload, expected);
    }

    #[test]
    fn a_model_that_does_not_is_written_down_and_nothing_is_said() {
        let worse = Event::parse(include_str!("../events/worse-forecast.json")).unwrap();
        let decision = given::<BaselineValidation>(&worse, at_most(0.05)).decide();
        assert_eq!((decision.effects[0].passed, decision.events.len()), (false, 0));
    }

    #[test]
    fn the_baseline_says_in_which_direction_a_metric_is_better() {
        assert!(passes(0.91, at_least(0.9)) && !passes(0.89, at_least(0.9)));
        assert!(passes(0.89, at_most(0.9)) && !passes(0.91, at_most(0.9)));
    }

    #[test]
    fn a_model_that_only_equals_its_baseline_does_not_pass() {
        for equal in [0.0, -1.5, 0.9, f64::MAX] {
            assert!(!passes(equal, at_least(equal)) && !passes(equal, at_most(equal)), "{equal}");
        }
        assert!(!passes(-0.0, at_least(0.0)) && !passes(-0.0, at_most(0.0)), "zero has one value");
    }

    #[test]
    fn without_a_baseline_there_is_no_verdict() {
        given::<BaselineValidation>(&sample(), None).then_rejected("no_baseline");
    }

    #[test]
    fn a_baseline_that_is_no_finite_number_judges_nothing() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            given::<BaselineValidation>(&sample(), at_least(value)).then_rejected("bad_baseline");
            given::<BaselineValidation>(&sample(), at_most(value)).then_rejected("bad_baseline");
        }
    }

    #[test]
    fn an_evaluation_without_a_number_is_rejected() {
        let names = json!({ "model_id": "m", "token_symbol": "BTC", "metric": "rmse" });
        for value in [json!(null), json!("NaN"), json!("0.1"), json!([])] {
            let mut payload = names.clone();
            payload["value"] = value;
            given::<BaselineValidation>(&with_payload(&payload), at_most(1.0)).then_rejected("malformed");
        }
        given::<BaselineValidation>(&with_payload(&names), at_most(1.0)).then_rejected("malformed");
    }

    #[test]
    fn an_evaluation_of_nothing_in_particular_is_rejected() {
        for field in ["model_id", "token_symbol", "metric"] {
            let mut payload = json!({ "model_id": "m", "token_symbol": "BTC", "metric": "rmse", "value": 0.1 });
            payload[field] = json!(" ");
            given::<BaselineValidation>(&with_payload(&payload), at_most(1.0)).then_rejected("empty_field");
        }
    }

    #[test]
    fn models_and_metrics_that_read_alike_are_kept_apart() {
        let key = |model: &str, metric: &str| {
            let payload = json!({ "model_id": model, "token_symbol": "BTC", "metric": metric, "value": 0.1 });
            given::<BaselineValidation>(&with_payload(&payload), at_most(1.0)).decide().effects[0].key()
        };
        assert_ne!(key("a:b", "c"), key("a", "b:c"));
    }

    proptest! {
        #[test]
        fn of_two_different_values_exactly_one_beats_the_other(one in -1e300..1e300, other in -1e300..1e300) {
            prop_assume!(one != other);
            prop_assert_ne!(passes(one, at_least(other)), passes(other, at_least(one)));
            prop_assert_eq!(passes(one, at_least(other)), passes(other, at_most(one)));
        }
    }
}
