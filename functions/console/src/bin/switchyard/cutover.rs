//! `switchyard cutover`: an agent's share grows step by step, while the figures stay inside their limits.

use crate::{
    failure::Failure,
    functions::Stack,
    global::Global,
    style::{BOLD, GREEN, RED, YELLOW, count, paint, print_line},
    when::{Duration, age, since},
};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use std::str::FromStr;
use switchyard_operations::{
    cutover::{
        Act, Cutover, CutoverAnswer, CutoverLimit, CutoverLimits, CutoverPlan, CutoverRequest, CutoverState,
        CutoverStep, Measured, Share, Step, Wait,
    },
    routing::Moves,
    steward::Request,
};

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  switchyard cutover sentiment start --steps 25:1h,50:1h,75:2h,100 --max-failures 1% --max-lag 60s
  switchyard cutover sentiment start --steps 10:1d,100 --max-mismatch 1% --roll-back-at failures=5%,lag=10m
  switchyard cutover sentiment status                  how far it is, and what it waits for
  switchyard cutover sentiment pause                    stop it where it is
  switchyard cutover sentiment resume                   and continue from the beginning of that step
  switchyard cutover sentiment rollback                the old system has everything again")]
pub(crate) struct CutoverOptions {
    /// The agent
    pub(crate) agent: String,
    #[command(subcommand)]
    pub(crate) act: What,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum What {
    /// Begin: the first step holds from now on, and the steward goes on with the next ones
    Start(Start),
    /// Show how far it is, what was measured and what it waits for
    Status,
    /// Pause it until it is resumed
    Pause(Because),
    /// Resume a paused plan: its step is set again and soaks from the beginning
    Resume,
    /// Give everything back to the old system, what is unfinished, too
    Rollback(Because),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Because {
    /// Why, for the audit
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) because: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Start {
    /// Each step's percentage and how long the figures must stay well in it; the last one may go without
    #[arg(long, value_name = "PERCENT:SOAK,...", value_delimiter = ',', required = true)]
    pub(crate) steps: Vec<OneStep>,
    /// The agent's deliveries that have failed, if only once; above it the plan is paused
    #[arg(long, value_name = "SHARE", default_value = "1%")]
    pub(crate) max_failures: Percentage,
    /// How long the oldest event of the agent's may wait
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub(crate) max_lag: Duration,
    /// What the two sides decide differently [default: not compared]
    #[arg(long, value_name = "SHARE")]
    pub(crate) max_mismatch: Option<Percentage>,
    /// Limits past which it goes back at once
    #[arg(long, value_name = "FIGURE=LIMIT,...", value_delimiter = ',')]
    pub(crate) roll_back_at: Vec<Hard>,
    /// Of how many outcomes a share must be before a step counts as well
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) at_least: u32,
}

/// `25:1h`, or the last one: `100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OneStep(CutoverStep);

impl FromStr for OneStep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (percent, soak) = text.split_once(':').map_or((text, None), |(percent, soak)| (percent, Some(soak)));
        let soak_secs = soak.map(str::parse::<Duration>).transpose()?.map_or(0, |soak| soak.secs);
        let percent: u8 = percent.trim_end_matches('%').parse().map_err(|_| {
            format!("{text:?} is no step: write a percentage and how long it must stay well, as in 25:1h")
        })?;
        Ok(Self(CutoverStep { percent, soak_secs }))
    }
}

/// A share as people say it, `1%` or `0.01`, of 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Percentage(f64);

impl FromStr for Percentage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Without the sign `1` would be everything to one reader and a hundredth to the other.
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.parse::<f64>().ok().map(|percent| percent / 100.0),
            None => text.parse().ok().filter(|share| *share < 1.0),
        };
        match share {
            Some(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            _ => Err(format!("{text:?} is no share: write 1% or 0.01")),
        }
    }
}

/// `failures=5%`, `mismatch=5%` or `lag=10m`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Hard {
    Failures(f64),
    Mismatch(f64),
    Lag(f64),
}

impl FromStr for Hard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share = |limit: &str| limit.parse::<Percentage>().map(|share| share.0);
        match text.split_once('=') {
            Some(("failures", limit)) => share(limit).map(Self::Failures),
            Some(("mismatch", limit)) => share(limit).map(Self::Mismatch),
            Some(("lag", limit)) => limit.parse::<Duration>().map(|lag| Self::Lag(f64::from(lag.secs))),
            _ => Err(format!("{text:?} is no limit: write failures=5%, mismatch=5% or lag=10m")),
        }
    }
}

/// Asks the steward, and tells how the plan stands.
pub(crate) async fn run(stack: &Stack, options: CutoverOptions, global: &Global) -> Result<(), Failure> {
    let request = request(options, &global.operator).map_err(Failure::new)?;
    let answer: CutoverAnswer = stack.ask_steward(&Request::Cutover(Box::new(request)), global.json).await?;
    if !global.json {
        print_line(page(&answer, Timestamp::now()));
    }
    Ok(())
}

fn request(options: CutoverOptions, operator: &str) -> Result<CutoverRequest, String> {
    let (act, plan, because) = match options.act {
        What::Start(start) => (Act::Start, Some(plan(&start)?), String::new()),
        What::Status => (Act::Status, None, String::new()),
        What::Pause(Because { because }) => (Act::Pause, None, because),
        What::Resume => (Act::Resume, None, String::new()),
        What::Rollback(Because { because }) => (Act::RollBack, None, because),
    };
    Ok(CutoverRequest { agent: options.agent, act, plan, because, operator: operator.to_owned() })
}

fn plan(start: &Start) -> Result<CutoverPlan, String> {
    let hard = |pick: fn(&Hard) -> Option<f64>| start.roll_back_at.iter().rev().find_map(pick);
    let limit = |pause, roll_back| CutoverLimit { pause, roll_back };
    let of_mismatch = hard(|limit| if let Hard::Mismatch(at) = limit { Some(*at) } else { None });
    if of_mismatch.is_some() && start.max_mismatch.is_none() {
        return Err("a mismatch is compared only with --max-mismatch: name it beside --roll-back-at mismatch=".into());
    }
    let limits = CutoverLimits {
        mismatch: start.max_mismatch.map(|share| limit(share.0, of_mismatch)),
        failures: limit(
            start.max_failures.0,
            hard(|limit| if let Hard::Failures(at) = limit { Some(*at) } else { None }),
        ),
        lag_secs: limit(
            f64::from(start.max_lag.secs),
            hard(|limit| if let Hard::Lag(at) = limit { Some(*at) } else { None }),
        ),
        at_least: start.at_least,
    };
    Ok(CutoverPlan { steps: start.steps.iter().map(|step| step.0).collect(), limits })
}

fn page(answer: &CutoverAnswer, now: Timestamp) -> String {
    let agent = &answer.agent;
    let Some(cutover) = &answer.cutover else {
        return format!("{agent} has had no cutover yet: switchyard cutover {agent} start --help");
    };
    let mut lines = vec![headline(cutover, now), steps(cutover)];
    lines.extend(answer.measured.as_ref().map(measured));
    if let (Some(next), None) = (&answer.next, &cutover.ended_at) {
        lines.extend(foretold(next));
    }
    if let Some(because) = &cutover.because {
        lines.push(format!("because: {because}"));
    }
    match cutover.state {
        CutoverState::Paused => {
            lines.push(format!("resume: switchyard cutover {agent} resume; back: switchyard cutover {agent} rollback"))
        }
        CutoverState::RolledBack => lines.extend(left_to_the_old(agent, &answer.moves)),
        CutoverState::Done => {
            lines.push(format!("pins still count; for all: switchyard route {agent} full"));
        }
        CutoverState::Running => {}
    }
    if let Some(moved) = answer.moved {
        let more = if moved.all { "" } else { "; there was no time for all of it, the steward goes on" };
        lines.push(format!("moved to the old system just now: {}{more}", count(moved.deliveries, "delivery")));
    }
    lines.join("\n")
}

pub(crate) fn headline(cutover: &Cutover, now: Timestamp) -> String {
    let (agent, percent) = (&cutover.agent, cutover.plan.steps.get(cutover.step).map_or(0, |step| step.percent));
    let line = match cutover.state {
        CutoverState::Running => {
            let for_so_long = age(cutover.in_step_secs.max(0.0) as u64);
            paint(GREEN, format!("{agent}: running, at {percent} percent for {for_so_long}"))
        }
        CutoverState::Paused => {
            let by = if cutover.by_operator { "by an operator" } else { "by a limit" };
            paint(YELLOW, format!("{agent}: paused {by} at {percent} percent"))
        }
        CutoverState::RolledBack => {
            let when = cutover.ended_at.as_deref().map(|at| since(at, now)).unwrap_or_default();
            paint(RED, format!("{agent}: rolled back from {percent} percent {when}"))
        }
        CutoverState::Done => {
            let when = cutover.ended_at.as_deref().map(|at| since(at, now)).unwrap_or_default();
            paint(GREEN, format!("{agent}: done, at {percent} percent {when}"))
        }
    };
    format!("{line} (started by {} {})", cutover.by, since(&cutover.at, now))
}

/// `steps: 25 for 1h 0m, [50 for 1h 0m], 100`: the present one in brackets.
fn steps(cutover: &Cutover) -> String {
    let all = cutover.plan.steps.iter().enumerate().map(|(at, step)| {
        let soak = if step.soak_secs == 0 { String::new() } else { format!(" for {}", age(step.soak_secs.into())) };
        let step = format!("{}{soak}", step.percent);
        if at == cutover.step { paint(BOLD, format!("[{step}]")) } else { step }
    });
    format!("steps: {}", all.collect::<Vec<_>>().join(", "))
}

fn measured(measured: &Measured) -> String {
    let share = |share: Share| format!("{} of {}", share.bad, share.of);
    let mut text = Vec::new();
    text.extend(measured.failures.map(|failures| format!("failures {}", share(failures))));
    text.extend(measured.mismatch.map(|mismatch| format!("mismatch {}", share(mismatch))));
    text.extend(measured.lag_secs.map(|lag| format!("lag {}", age(lag.max(0.0) as u64))));
    format!("measured in this step: {}", text.join(", "))
}

fn foretold(next: &Step) -> Option<String> {
    let listed = |all: Vec<String>| all.join(", ");
    match next {
        Step::Stay => None,
        Step::Wait(waits) => Some(format!("waits for: {}", listed(waits.iter().map(wait).collect()))),
        Step::Advance => Some("goes on within a minute".to_owned()),
        Step::Pause(breaches) => {
            Some(format!("will pause: {}", listed(breaches.iter().map(ToString::to_string).collect())))
        }
        Step::RollBack(breaches) => {
            Some(format!("will be rolled back: {}", listed(breaches.iter().map(ToString::to_string).collect())))
        }
    }
}

fn wait(wait: &Wait) -> String {
    match wait {
        Wait::Soak { secs } => format!("{} more in this step", age(secs.ceil() as u64)),
        other => other.to_string(),
    }
}

/// What the old system has to do now, and where it finds it.
fn left_to_the_old(agent: &str, moves: &Moves) -> Vec<String> {
    let mut lines = vec![format!("left to the old system: {}", count(moves.stay_old, "unfinished delivery"))];
    if moves.to_old > 0 {
        let n = count(moves.to_old, "delivery");
        lines.push(format!("still in the agent's hands: {n}, which follow or are done within a minute"));
    }
    lines.push(format!("the old system finds them by: select * from switchyard.todo_old('{agent}')"));
    lines
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;

    fn asked(line: &str) -> Result<CutoverRequest, String> {
        let parsed = Arguments::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::Cutover(options) = parsed.command else { panic!("{line}") };
        request(*options, "ada")
    }

    #[test]
    fn a_plan_is_said_in_one_line() {
        let line = "switchyard cutover painter start --steps 25:1h,50:1h,75:2h,100 --max-mismatch 1% --max-failures 0.02 \
                    --max-lag 90s --roll-back-at mismatch=5%,failures=5%,lag=10m --at-least 20";
        let plan = asked(line).unwrap().plan.unwrap();
        let steps: Vec<(u8, u32)> = plan.steps.iter().map(|step| (step.percent, step.soak_secs)).collect();
        assert_eq!(steps, [(25, 3_600), (50, 3_600), (75, 7_200), (100, 0)]);
        let limit = |pause, roll_back| CutoverLimit { pause, roll_back: Some(roll_back) };
        assert_eq!(plan.limits.mismatch, Some(limit(0.01, 0.05)));
        assert_eq!((plan.limits.failures, plan.limits.lag_secs), (limit(0.02, 0.05), limit(90.0, 600.0)));
        assert_eq!(plan.limits.at_least, 20);
    }

    #[test]
    fn what_is_left_out_has_a_careful_value() {
        let limits = asked("switchyard cutover painter start --steps 100:1h").unwrap().plan.unwrap().limits;
        assert_eq!((limits.failures.pause, limits.lag_secs.pause, limits.at_least), (0.01, 60.0, 100));
        assert!(limits.mismatch.is_none() && limits.failures.roll_back.is_none());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for wrong in [
            "start",
            "start --steps 25:soon",
            "start --steps x:1h",
            "start --steps 100 --max-failures 200%",
            "start --steps 100 --max-failures 1",
            "start --steps 100 --roll-back-at speed=1",
            "start --steps 100 --roll-back-at mismatch=5%",
            "dance",
            "",
        ] {
            assert!(asked(&format!("switchyard cutover painter {wrong}")).is_err(), "{wrong}");
        }
        assert_eq!(asked("switchyard cutover painter resume").unwrap().act, Act::Resume);
        let back = asked("switchyard cutover painter rollback --because enough").unwrap();
        assert_eq!((back.act, back.because.as_str()), (Act::RollBack, "enough"));
    }

    /// A plan that a limit has stopped.
    pub(crate) fn paused() -> Cutover {
        answer(CutoverState::Paused).cutover.unwrap()
    }

    fn answer(state: CutoverState) -> CutoverAnswer {
        let plan = asked("switchyard cutover painter start --steps 25:1h,100").unwrap().plan.unwrap();
        let ended = matches!(state, CutoverState::RolledBack | CutoverState::Done);
        CutoverAnswer {
            agent: "painter".into(),
            cutover: Some(Cutover {
                id: 1,
                agent: "painter".into(),
                plan,
                state,
                by_operator: false,
                because: None,
                step: 0,
                in_step_secs: 600.0,
                step_at: String::new(),
                compared_from: String::new(),
                by: "ada".into(),
                at: "2026-01-05T11:50:00Z".into(),
                ended_at: ended.then(|| "2026-01-05T11:59:00Z".into()),
            }),
            measured: Some(Measured {
                failures: Some(Share { bad: 1, of: 90 }),
                lag_secs: Some(2.0),
                ..Measured::default()
            }),
            next: Some(Step::Wait(vec![Wait::Soak { secs: 3_000.0 }])),
            moves: Moves { stay_old: 12, to_old: 1, ..Moves::default() },
            moved: None,
        }
    }

    #[test]
    fn a_running_plan_says_what_it_waits_for_and_a_rolled_back_one_what_is_left_to_whom() {
        let now = "2026-01-05T12:00:00Z".parse().unwrap();
        let running = page(&answer(CutoverState::Running), now);
        for words in
            ["25 percent for 10m 0s", "[25 for 1h 0m]", "failures 1 of 90", "waits for: 50m 0s more", "10m 0s ago"]
        {
            assert!(running.contains(words), "{words}: {running}");
        }
        let some = Some(switchyard_operations::routing::Moved { deliveries: 5_000, all: false });
        let back = page(&CutoverAnswer { moved: some, ..answer(CutoverState::RolledBack) }, now);
        for words in [
            "rolled back from 25 percent",
            "12 unfinished deliveries",
            "todo_old('painter')",
            "in the agent's hands: 1 delivery",
            "just now: 5000 deliveries; there was no time for all of it",
        ] {
            assert!(back.contains(words), "{words}: {back}");
        }
        assert!(page(&answer(CutoverState::Paused), now).contains("resume"));
        let none = CutoverAnswer { cutover: None, ..answer(CutoverState::Done) };
        assert!(page(&none, now).contains("start --help"));
    }
}
