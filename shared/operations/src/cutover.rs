//! Cutover plans: `{"action":"cutover", ...}`.

use crate::{
    check::{checked, is_name},
    routing::{Moved, Moves},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

const THERE_IS: &str = r#"a cutover is {"action":"cutover","agent":NAME,"do":"status"}, the same with "do":"pause"|"resume"|"roll_back" and "operator":WHO, or {"action":"cutover","agent":NAME,"do":"start","plan":{"steps":[{"percent":25,"soak_secs":3600},...,{"percent":100}],"limits":{"failures":{"pause":0.01,"roll_back":0.05},"lag_secs":{"pause":60},"mismatch":{"pause":0.01},"at_least":100}},"operator":WHO} (mismatch and each roll_back may be left out)"#;

/// What is done about a cutover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// How it stands. Changes nothing.
    Status,
    /// A plan begins.
    Start,
    /// The plan stops where it is.
    Pause,
    /// A paused plan resumes, from the beginning of its present step.
    Resume,
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
        checked(fields, Self::check, THERE_IS)
    }

    fn check(&self) -> Result<(), String> {
        is_name("agent", &self.agent)?;
        if self.act != Act::Status {
            is_name("operator", &self.operator)?;
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
    let CutoverLimit { pause, roll_back } = limit;
    if !fits(pause) || roll_back.is_some_and(|bound| !fits(bound)) {
        let what = if most > 1.0 { "seconds" } else { "a share of 1" };
        return Err(format!("the limits of {name:?} are {what}"));
    }
    if roll_back.is_some_and(|bound| bound < pause) {
        return Err(format!("{name:?} would roll back before it pauses"));
    }
    Ok(())
}

/// A step of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutoverStep {
    /// The agent's share, 1 to 100.
    pub percent: u8,
    /// For how many seconds the figures must stay inside their limits before the next step. 0 only in the last one, with which the plan is done
    /// at once.
    #[serde(default)]
    pub soak_secs: u32,
}

/// A limit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutoverLimit {
    /// Above it the plan is paused.
    pub pause: f64,
    /// Above it the plan rolls back at once.
    #[serde(default)]
    pub roll_back: Option<f64>,
}

/// The limits of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutoverLimits {
    /// The share of deliveries that the agent and the old system decided differently, of 1. With it the agent decides in shadow, while the
    /// plan is under way, what the old system owns.
    #[serde(default)]
    pub mismatch: Option<CutoverLimit>,
    /// The share of the agent's deliveries that have failed, if only once, of 1.
    pub failures: CutoverLimit,
    /// For how many seconds the oldest event that is the agent's has waited.
    pub lag_secs: CutoverLimit,
    /// Of how many outcomes a share must be before it says that a step is well.
    pub at_least: u32,
}

/// The plan of an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutoverPlan {
    /// The steps, each with a larger share than the one before.
    pub steps: Vec<CutoverStep>,
    /// The limits.
    pub limits: CutoverLimits,
}

/// How a plan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutoverState {
    /// It goes on when its time has come and the figures are inside their limits.
    Running,
    /// It waits for an operator.
    Paused,
    /// The old system has everything again.
    RolledBack,
    /// The last step was reached, and was well.
    Done,
}

/// A plan, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cutover {
    /// Its number; they grow with time.
    pub id: i64,
    /// The agent.
    pub agent: String,
    /// What was planned.
    #[serde(flatten)]
    pub plan: CutoverPlan,
    /// How it stands.
    pub state: CutoverState,
    /// Paused by an operator, not by a limit.
    pub by_operator: bool,
    /// Why it is paused or was rolled back.
    pub because: Option<String>,
    /// The present step, from 0.
    pub step: usize,
    /// For how many seconds it has been in this step.
    pub in_step_secs: f64,
    /// When the step began: RFC 3339.
    pub step_at: String,
    /// From when on comparisons say something of the step: the first whole minute of it, since they are counted by the minute. RFC 3339.
    pub compared_from: String,
    /// Who started it.
    pub by: String,
    /// When: RFC 3339.
    pub at: String,
    /// When it was done or rolled back: RFC 3339.
    pub ended_at: Option<String>,
}

/// To `cutover`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CutoverAnswer {
    /// The agent.
    pub agent: String,
    /// Its newest plan; none where there never was one.
    pub cutover: Option<Cutover>,
    /// What was measured of the present step, where the plan is running or paused.
    pub measured: Option<Measured>,
    /// What the next pass would do, judged by these figures.
    pub next: Option<Step>,
    /// The unfinished deliveries, by side.
    pub moves: Moves,
    /// What a roll-back has given to the old system at once.
    pub moved: Option<Moved>,
}

/// A plan that a pass has moved, or could not judge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The agent.
    pub agent: String,
    /// The share that it had when it was judged.
    pub percent: u8,
    /// What was measured.
    pub measured: Measured,
    /// What was decided.
    pub step: Step,
    /// Whether it was done: `false` if the plan has moved meanwhile.
    pub done: bool,
}

/// How many of how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// How many are not as they should be.
    pub bad: u64,
    /// Of how many outcomes.
    pub of: u64,
}

/// What was measured of a plan's present step. What could not be measured is absent, and never counts as good.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Of the agent's deliveries, those that have failed, if only once.
    pub failures: Option<Share>,
    /// Of the deliveries that both sides have decided, those that they decided differently.
    pub mismatch: Option<Share>,
    /// Why there is no mismatch, where the plan has a limit for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
    /// For how many seconds the oldest event that is the agent's has waited.
    pub lag_secs: Option<f64>,
}

/// A figure that has a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// [`Measured::failures`].
    Failures,
    /// [`Measured::mismatch`].
    Mismatch,
    /// [`Measured::lag_secs`].
    Lag,
}

/// A figure past a limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Breach {
    /// Which figure.
    pub figure: Figure,
    /// What it is: a share of 1, or seconds.
    pub is: f64,
    /// What it may be at most.
    pub at_most: f64,
}

/// What a running plan waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// The step has not soaked for long enough.
    Soak {
        /// For how many seconds more.
        secs: f64,
    },
    /// There are too few outcomes for a share to say anything.
    Outcomes {
        /// Of which figure.
        figure: Figure,
        /// How many there are.
        have: u64,
        /// How many it takes.
        want: u64,
    },
    /// A figure with a limit could not be measured.
    Unmeasured {
        /// Which.
        figure: Figure,
        /// Why, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
}

/// What happens to a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Nothing: it has ended, or it is paused.
    Stay,
    /// Nothing yet: it waits for all of these.
    Wait(Vec<Wait>),
    /// The next step, or the end after the last one.
    Advance,
    /// It is paused, for these.
    Pause(Vec<Breach>),
    /// The old system gets everything back, for these.
    RollBack(Vec<Breach>),
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failures => "failures",
            Self::Mismatch => "mismatch",
            Self::Lag => "lag",
        })
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figure, is, at_most } = self;
        match figure {
            Figure::Lag => write!(f, "lag {is:.0} s (at most {at_most} s)"),
            _ => write!(f, "{figure} {:.2}% (at most {}%)", is * 100.0, percent(*at_most)),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Soak { secs } => write!(f, "{secs:.0} s more in this step"),
            Self::Outcomes { figure: Figure::Mismatch, have, want } => write!(f, "{have} of {want} comparisons"),
            Self::Outcomes { have, want, .. } => write!(f, "{have} of {want} outcomes"),
            Self::Unmeasured { figure, why } => {
                let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
                write!(f, "{figure} could not be measured{why}")
            }
        }
    }
}

/// Of 1, as people write it: 1, 0.5, 12.25.
fn percent(share: f64) -> f64 {
    (share * 1_000_000.0).round() / 10_000.0
}

crate::words!(CutoverState { Running = "running", Paused = "paused", RolledBack = "rolled_back", Done = "done" });

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
                    "failures": { "pause": 0.01, "roll_back": 0.05 }, "lag_secs": { "pause": 60 }, "at_least": 100,
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
        for act in ["pause", "resume", "roll_back"] {
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
            ("/plan/limits/failures/pause", json!(1.5), "share of 1"),
            ("/plan/limits/failures/roll_back", json!(0.001), "before it pauses"),
            ("/plan/limits/lag_secs/pause", json!(-1), "seconds"),
            ("/plan/limits", json!({ "at_least": 1 }), "failures"),
            ("/do", json!("dance"), "dance"),
            ("/do", json!("pause"), "belongs to"),
            ("/plan", Value::Null, "\"plan\" is missing"),
            ("/agent", json!(" "), "agent"),
        ] {
            let error = with(path, value);
            assert!(error.contains(words) && error.contains("soak_secs"), "{path}: {error}");
        }
    }
}
