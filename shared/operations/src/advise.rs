//! When to move at all: figures, and the advice that they lead to. Changes nothing.

use crate::{check::typed, metrics::Metrics};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use switchyard_advice::{Advice, Wishes};

/// The valid requests, for the error of an invalid one.
const THERE_IS: &str = r#"there is {"action":"advise"} with any of "latency_wanted_ms":MS, "regions":N, "ordering":"none"|"aggregate" and "delivery":"best_effort"|"at_least_once"|"effects_once""#;

/// To `advise`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advised {
    /// What was measured.
    pub metrics: Metrics,
    /// What follows from it.
    pub advice: Advice,
}

/// Reads what is wanted; a field that is not there is not judged.
///
/// # Errors
/// One line that names what is wrong and what there is instead.
pub(crate) fn wishes(fields: &Map<String, Value>) -> Result<Wishes, String> {
    match typed(fields) {
        Ok(Wishes { regions: Some(0), .. }) => Err(format!("\"regions\" is 0, and there is at least one: {THERE_IS}")),
        Ok(wishes) => Ok(wishes),
        Err(error) => Err(format!("{error}: {THERE_IS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use switchyard_advice::{Delivery, Ordering};

    fn read(event: &Value) -> Result<Wishes, String> {
        wishes(event.as_object().unwrap())
    }

    #[test]
    fn what_is_not_wanted_is_not_judged() {
        assert_eq!(read(&json!({ "action": "advise" })), Ok(Wishes::default()));
        let all = json!({ "action": "advise", "latency_wanted_ms": 500, "regions": 2, "ordering": "aggregate", "delivery": "effects_once" });
        let wanted = Wishes {
            latency_wanted_ms: Some(500),
            regions: Some(2),
            ordering: Some(Ordering::Aggregate),
            delivery: Some(Delivery::EffectsOnce),
        };
        assert_eq!(read(&all), Ok(wanted));
    }

    #[test]
    fn a_wish_that_is_not_understood_is_answered_with_what_there_is() {
        for (field, value) in [
            ("latency", json!(5)),
            ("latency_wanted_ms", json!("1s")),
            ("latency_wanted_ms", json!(-1)),
            ("regions", json!(0)),
            ("ordering", json!("total")),
            ("delivery", json!("exactly_once")),
        ] {
            let error = read(&json!({ "action": "advise", field: value })).unwrap_err();
            assert!(error.contains("latency_wanted_ms") && error.contains("effects_once"), "{field}: {error}");
        }
    }
}
