//! What can be asked about a cutover: `{"action":"cutover", ...}`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use switchyard_store::{CutoverLimit, CutoverPlan};

const THERE_IS: &str = r#"a cutover is {"action":"cutover","agent":NAME,"do":"status"}, the same with "do":"hold"|"go_on"|"roll_back" and "operator":WHO, or {"action":"cutover","agent":NAME,"do":"start","plan":{"steps":[{"percent":25,"soak_secs":3600},...,{"percent":100}],"limits":{"failures":{"hold":0.01,"roll_back":0.05},"lag_secs":{"hold":60},"mismatch":{"hold":0.01},"at_least":100}},"operator":WHO} (mismatch and each roll_back may be left out)"#;

/// What is done about a cutover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// How it stands. Changes nothing.
    Status,
    /// A plan begins.
    Start,
    /// The plan stops where it is.
    Hold,
    /// A held plan goes on, from the beginning of its present step.
    GoOn,
    /// The old system gets everything back.
    RollBack,
}

/// A request about an agent's cutover.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutoverRequest {
    /// Whose.
    pub agent: String,
    /// What is done.
    #[serde(rename = "do")]
    pub act: Act,
    /// With [`Act::Start`], and with nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<CutoverPlan>,
    /// Why, for the audit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// Who asks, for the audit; not needed to look.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operator: String,
}

impl CutoverRequest {
    /// Reads it from the fields of an invocation.
    ///
    /// # Errors
    /// One line that names what is wrong and what there is instead.
    pub fn of(fields: &Map<String, Value>) -> Result<Self, String> {
        let mut fields = fields.clone();
        fields.remove("action");
        let request: Self =
            serde_json::from_value(Value::Object(fields)).map_err(|error| format!("{error}: {THERE_IS}"))?;
        request.check().map_err(|wrong| format!("{wrong}: {THERE_IS}"))?;
        Ok(request)
    }

    fn check(&self) -> Result<(), String> {
        crate::requests::is_name("agent", &self.agent)?;
        if self.act != Act::Status {
            crate::requests::is_name("operator", &self.operator)?;
        }
        if self.because.len() > 1_000 {
            return Err("\"because\" is longer than 1,000 bytes".into());
        }
        match (&self.plan, self.act) {
            (Some(plan), Act::Start) => check_plan(plan),
            (None, Act::Start) => Err("\"plan\" is missing".into()),
            (Some(_), _) => Err("\"plan\" belongs to \"do\":\"start\"".into()),
            (None, _) => Ok(()),
        }
    }
}

/// Whether a plan can be followed.
fn check_plan(plan: &CutoverPlan) -> Result<(), String> {
    let steps = &plan.steps;
    let Some((last, earlier)) = steps.split_last() else { return Err("a plan has a step at least".into()) };
    if steps.len() > 50 {
        return Err("a plan has fifty steps at most".into());
    }
    if last.percent > 100 || steps[0].percent == 0 || steps.windows(2).any(|pair| pair[0].percent >= pair[1].percent) {
        return Err("the steps' percentages go up, from 1 at least to 100 at most".into());
    }
    if let Some(step) = earlier.iter().find(|step| step.soak_secs == 0) {
        return Err(format!("the step of {} percent has no soak: how long the figures must stay well", step.percent));
    }
    let limits = plan.limits;
    if !(1..=1_000_000).contains(&limits.at_least) {
        return Err("\"at_least\" is between 1 and 1,000,000".into());
    }
    check_limit("failures", limits.failures, 1.0)?;
    check_limit("lag_secs", limits.lag_secs, f64::MAX)?;
    limits.mismatch.map_or(Ok(()), |limit| check_limit("mismatch", limit, 1.0))
}

fn check_limit(name: &str, limit: CutoverLimit, most: f64) -> Result<(), String> {
    let fits = |bound: f64| bound.is_finite() && (0.0..=most).contains(&bound);
    let CutoverLimit { hold, roll_back } = limit;
    if !fits(hold) || roll_back.is_some_and(|bound| !fits(bound)) {
        let what = if most > 1.0 { "seconds" } else { "a share of 1" };
        return Err(format!("the limits of {name:?} are {what}"));
    }
    if roll_back.is_some_and(|bound| bound < hold) {
        return Err(format!("{name:?} would roll back before it is held"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn start() -> Value {
        json!({
            "action": "cutover", "agent": "painter", "do": "start", "operator": "ada",
            "plan": {
                "steps": [{ "percent": 25, "soak_secs": 3600 }, { "percent": 100 }],
                "limits": {
                    "failures": { "hold": 0.01, "roll_back": 0.05 }, "lag_secs": { "hold": 60 }, "at_least": 100,
                },
            },
        })
    }

    fn read(value: &Value) -> Result<CutoverRequest, String> {
        CutoverRequest::of(value.as_object().unwrap())
    }

    #[test]
    fn a_plan_is_read_and_comes_out_as_it_went_in() {
        let request = read(&start()).unwrap();
        assert_eq!(request.plan.as_ref().unwrap().steps[1].soak_secs, 0);
        let again = serde_json::to_value(&request).unwrap();
        assert_eq!(read(&again), Ok(request));
    }

    #[test]
    fn looking_needs_no_name_and_acting_does() {
        assert!(read(&json!({ "agent": "painter", "do": "status" })).is_ok());
        for act in ["hold", "go_on", "roll_back"] {
            assert!(read(&json!({ "agent": "painter", "do": act, "operator": "ada" })).is_ok());
            assert!(read(&json!({ "agent": "painter", "do": act })).unwrap_err().contains("operator"));
        }
    }

    #[test]
    fn a_plan_that_cannot_be_followed_is_refused_in_words() {
        let with = |path: &str, value: Value| {
            let mut request = start();
            *request.pointer_mut(path).unwrap() = value;
            read(&request).unwrap_err()
        };
        for (path, value, words) in [
            ("/plan/steps", json!([]), "a step at least"),
            ("/plan/steps/0/percent", json!(0), "go up"),
            ("/plan/steps/0/percent", json!(100), "go up"),
            ("/plan/steps/1/percent", json!(101), "go up"),
            ("/plan/steps/0/soak_secs", json!(0), "25 percent has no soak"),
            ("/plan/limits/at_least", json!(0), "at_least"),
            ("/plan/limits/failures/hold", json!(1.5), "share of 1"),
            ("/plan/limits/failures/roll_back", json!(0.001), "before it is held"),
            ("/plan/limits/lag_secs/hold", json!(-1), "seconds"),
            ("/plan/limits", json!({ "at_least": 1 }), "failures"),
            ("/do", json!("dance"), "dance"),
            ("/do", json!("hold"), "belongs to"),
            ("/plan", Value::Null, "\"plan\" is missing"),
            ("/agent", json!(" "), "agent"),
        ] {
            let error = with(path, value);
            assert!(error.contains(words) && error.contains("soak_secs"), "{path}: {error}");
        }
    }
}
