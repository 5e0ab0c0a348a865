//! Whether a cutover plan goes on, decided from the plan and what was measured of its present step. Pure: nothing here asks or waits.

use std::fmt;
use switchyard_operations::cutover::{
    Breach, Cutover, CutoverLimit, CutoverPlan, CutoverState, Figure, Measured, Share, Step, Wait,
};

/// Decides.
///
/// - What a person holds, and what has ended, stays as it is, whatever the figures say.
/// - Past a hard limit a plan rolls back at once, also one that a limit has paused: an operator who misses the first limit is safe at the second.
/// - Past another limit it is paused, and only an operator resumes it.
/// - It advances when the step has soaked and every figure that has a limit was measured, of enough outcomes, and is inside. At a hundred percent
///   there is nothing left to compare with, so a mismatch is not waited for.
/// - A share counts as past a limit as soon as so many are bad that it would be past it of the fewest outcomes that say something: a handful of
///   failures among the first few is no reason to roll back, and a roll-back does not wait for the hundredth failure of a hundred.
#[must_use]
pub fn decide(plan: &Cutover, measured: &Measured) -> Step {
    let watched = match plan.state {
        CutoverState::Running => true,
        CutoverState::Paused => !plan.by_operator,
        CutoverState::RolledBack | CutoverState::Done => false,
    };
    if !watched {
        return Step::Stay;
    }
    let hard = breaches(&plan.plan, measured, |limit| limit.roll_back);
    if !hard.is_empty() {
        return Step::RollBack(hard);
    }
    if plan.state == CutoverState::Paused {
        return Step::Stay;
    }
    let soft = breaches(&plan.plan, measured, |limit| Some(limit.pause));
    if !soft.is_empty() {
        return Step::Pause(soft);
    }
    let waits = waits(plan, measured);
    if waits.is_empty() { Step::Advance } else { Step::Wait(waits) }
}

fn breaches(plan: &CutoverPlan, measured: &Measured, bound: impl Fn(CutoverLimit) -> Option<f64>) -> Vec<Breach> {
    let limits = plan.limits;
    let share = |figure, share: Option<Share>, limit: Option<CutoverLimit>| {
        let (share, at_most) = (share?, bound(limit?)?);
        // Shares are far from where an f64 stops counting.
        let is = share.bad as f64 / share.of.max(u64::from(limits.at_least)).max(1) as f64;
        (is > at_most).then_some(Breach { figure, is, at_most })
    };
    let lag = || {
        let (is, at_most) = (measured.lag_secs?, bound(limits.lag_secs)?);
        (is > at_most).then_some(Breach { figure: Figure::Lag, is, at_most })
    };
    [
        share(Figure::Failures, measured.failures, Some(limits.failures)),
        share(Figure::Mismatch, measured.mismatch, limits.mismatch),
        lag(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn waits(plan: &Cutover, measured: &Measured) -> Vec<Wait> {
    let mut waits = Vec::new();
    let step = plan.plan.steps.get(plan.step);
    let left = step.map_or(0.0, |step| f64::from(step.soak_secs)) - plan.in_step_secs;
    if left > 0.0 {
        waits.push(Wait::Soak { secs: left });
    }
    let want = u64::from(plan.plan.limits.at_least);
    let mut enough = |figure, share: Option<Share>, why: Option<&String>| match share {
        None => waits.push(Wait::Unmeasured { figure, why: why.cloned() }),
        Some(share) if share.of < want => waits.push(Wait::Outcomes { figure, have: share.of, want }),
        Some(_) => {}
    };
    enough(Figure::Failures, measured.failures, None);
    if plan.plan.limits.mismatch.is_some() && step.is_some_and(|step| step.percent < 100) {
        enough(Figure::Mismatch, measured.mismatch, measured.not_compared.as_ref());
    }
    if measured.lag_secs.is_none() {
        waits.push(Wait::Unmeasured { figure: Figure::Lag, why: None });
    }
    waits
}

/// Several of them on one line.
pub(crate) fn listed<T: fmt::Display>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use switchyard_store::{CutoverLimits, CutoverStep};

    fn plan() -> Cutover {
        let steps = [(25, 3_600), (50, 3_600), (75, 7_200), (100, 0)];
        let limit = |pause, roll_back| CutoverLimit { pause, roll_back: Some(roll_back) };
        let limits = CutoverLimits {
            mismatch: Some(limit(0.01, 0.05)),
            failures: limit(0.01, 0.05),
            lag_secs: limit(60.0, 600.0),
            at_least: 100,
        };
        Cutover {
            id: 1,
            agent: "painter".into(),
            plan: CutoverPlan {
                steps: steps.map(|(percent, soak_secs)| CutoverStep { percent, soak_secs }).to_vec(),
                limits,
            },
            state: CutoverState::Running,
            by_operator: false,
            because: None,
            step: 0,
            in_step_secs: 3_600.0,
            step_at: String::new(),
            compared_from: String::new(),
            by: "ada".into(),
            at: String::new(),
            ended_at: None,
        }
    }

    fn well() -> Measured {
        let well = Some(Share { bad: 0, of: 1_000 });
        Measured { failures: well, mismatch: well, not_compared: None, lag_secs: Some(1.0) }
    }

    #[test]
    fn a_step_that_has_soaked_and_is_well_is_followed_by_the_next() {
        assert_eq!(decide(&plan(), &well()), Step::Advance);
        let early = Cutover { in_step_secs: 3_500.0, ..plan() };
        assert_eq!(decide(&early, &well()), Step::Wait(vec![Wait::Soak { secs: 100.0 }]));
    }

    #[test]
    fn what_was_not_measured_or_of_too_few_is_waited_for() {
        let unmeasured = |figure| Wait::Unmeasured { figure, why: None };
        let nothing = [Figure::Failures, Figure::Mismatch, Figure::Lag].map(unmeasured).to_vec();
        assert_eq!(decide(&plan(), &Measured::default()), Step::Wait(nothing));
        let few = Measured { failures: Some(Share { bad: 0, of: 99 }), ..well() };
        let wait = Wait::Outcomes { figure: Figure::Failures, have: 99, want: 100 };
        assert_eq!(decide(&plan(), &few), Step::Wait(vec![wait]));
    }

    #[test]
    fn a_limit_holds_and_a_hard_one_rolls_back_before_the_soak_is_over() {
        let early = Cutover { in_step_secs: 1.0, ..plan() };
        let failing = |bad| Measured { failures: Some(Share { bad, of: 1_000 }), ..well() };
        assert!(matches!(decide(&early, &failing(10)), Step::Wait(_)));
        assert!(matches!(decide(&early, &failing(11)), Step::Pause(_)));
        let Step::RollBack(breaches) = decide(&early, &failing(51)) else { panic!() };
        assert_eq!(listed(&breaches), "failures 5.10% (at most 5%)");
        let late = Measured { lag_secs: Some(601.0), ..well() };
        assert!(matches!(decide(&early, &late), Step::RollBack(_)));
    }

    #[test]
    fn a_few_failures_among_the_first_are_no_reason_to_go_back_and_a_hundred_are_not_waited_for() {
        let first = |bad| Measured { failures: Some(Share { bad, of: bad }), ..well() };
        assert!(matches!(decide(&plan(), &first(1)), Step::Wait(_)));
        assert!(matches!(decide(&plan(), &first(5)), Step::Pause(_)));
        assert!(matches!(decide(&plan(), &first(6)), Step::RollBack(_)));
    }

    #[test]
    fn what_a_limit_holds_is_still_watched_and_what_a_person_holds_is_not() {
        let bad = Measured { lag_secs: Some(601.0), ..well() };
        let paused = Cutover { state: CutoverState::Paused, ..plan() };
        assert_eq!(decide(&paused, &well()), Step::Stay);
        assert!(matches!(decide(&paused, &bad), Step::RollBack(_)));
        assert_eq!(decide(&Cutover { by_operator: true, ..paused }, &bad), Step::Stay);
    }

    #[test]
    fn at_a_hundred_percent_there_is_nothing_to_compare_with() {
        let mut last = Cutover { step: 3, ..plan() };
        last.plan.steps[3].soak_secs = 60;
        assert_eq!(decide(&last, &Measured { mismatch: None, ..well() }), Step::Advance);
        last.plan.steps[3].percent = 99;
        assert!(matches!(decide(&last, &Measured { mismatch: None, ..well() }), Step::Wait(_)));
        let differs = Measured { mismatch: Some(Share { bad: 100, of: 100 }), ..well() };
        assert!(matches!(decide(&last, &differs), Step::RollBack(_)));
    }

    #[test]
    fn waits_and_breaches_are_said_in_words() {
        let Step::Wait(waits) = decide(&Cutover { in_step_secs: 0.0, ..plan() }, &Measured::default()) else {
            panic!()
        };
        let words = "3600 s more in this step, failures could not be measured, mismatch could not be measured, lag could not be measured";
        assert_eq!(listed(&waits), words);
        let why = Some("it is compared with nothing".to_owned());
        let unmeasured = Wait::Unmeasured { figure: Figure::Mismatch, why };
        assert_eq!(unmeasured.to_string(), "mismatch could not be measured (it is compared with nothing)");
        let lag = Breach { figure: Figure::Lag, is: 75.4, at_most: 60.0 };
        assert_eq!(lag.to_string(), "lag 75 s (at most 60 s)");
    }

    /// As often good as anything, so that plans go on, too.
    fn share() -> impl Strategy<Value = Option<Share>> {
        let bad = prop_oneof![Just(0), 0u64..300];
        proptest::option::weighted(0.8, (bad, 0u64..3_000).prop_map(|(bad, good)| Share { bad, of: bad + good }))
    }

    fn measured() -> impl Strategy<Value = Measured> {
        let lag = proptest::option::weighted(0.8, prop_oneof![Just(0.0), 0.0..1_000.0f64]);
        (share(), share(), lag).prop_map(|(failures, mismatch, lag_secs)| Measured {
            failures,
            mismatch,
            not_compared: None,
            lag_secs,
        })
    }

    fn limit(most: f64) -> impl Strategy<Value = CutoverLimit> {
        (0.0..most, proptest::option::of(0.0..most))
            .prop_map(|(pause, above)| CutoverLimit { pause, roll_back: above.map(|above| pause + above) })
    }

    fn plans() -> impl Strategy<Value = Cutover> {
        let state = prop_oneof![
            4 => Just(CutoverState::Running),
            2 => Just(CutoverState::Paused),
            1 => Just(CutoverState::RolledBack),
            1 => Just(CutoverState::Done),
        ];
        let limits = (proptest::option::of(limit(0.1)), limit(0.1), limit(500.0), 1u32..500);
        (state, any::<bool>(), 0usize..4, 0.0..10_000.0f64, limits).prop_map(
            |(state, by_operator, step, in_step_secs, (mismatch, failures, lag_secs, at_least))| {
                let mut plan = Cutover { state, by_operator, step, in_step_secs, ..plan() };
                plan.plan.limits = CutoverLimits { mismatch, failures, lag_secs, at_least };
                plan
            },
        )
    }

    /// The same rules, said from the other end: a figure is inside a limit.
    fn inside(plan: &Cutover, measured: &Measured, hard: bool) -> bool {
        let limits = plan.plan.limits;
        let pick = |limit: CutoverLimit| if hard { limit.roll_back } else { Some(limit.pause) };
        let few = f64::from(limits.at_least);
        let share = |share: Option<Share>, limit: Option<CutoverLimit>| match (share, limit.and_then(pick)) {
            (Some(share), Some(most)) => share.bad as f64 <= most * (share.of as f64).max(few) + 1e-9,
            _ => true,
        };
        let lag = measured.lag_secs.is_none_or(|lag| pick(limits.lag_secs).is_none_or(|most| lag <= most));
        share(measured.failures, Some(limits.failures)) && share(measured.mismatch, limits.mismatch) && lag
    }

    proptest! {
        #[test]
        fn no_soak_is_skipped_and_nothing_advances_outside_its_limits_or_unmeasured(plan in plans(), measured in measured()) {
            if decide(&plan, &measured) == Step::Advance {
                prop_assert!(plan.in_step_secs >= f64::from(plan.plan.steps[plan.step].soak_secs));
                prop_assert!(inside(&plan, &measured, false) && inside(&plan, &measured, true));
                let enough = |share: Option<Share>| share.is_some_and(|share| share.of >= u64::from(plan.plan.limits.at_least));
                prop_assert!(enough(measured.failures) && measured.lag_secs.is_some());
                let compared = plan.plan.limits.mismatch.is_some() && plan.plan.steps[plan.step].percent < 100;
                prop_assert!(!compared || enough(measured.mismatch));
            }
        }

        #[test]
        fn a_hard_limit_rolls_back_at_once_whatever_else_there_is_to_wait_for(plan in plans(), measured in measured()) {
            let watched = matches!((plan.state, plan.by_operator), (CutoverState::Running, _) | (CutoverState::Paused, false));
            let rolls_back = matches!(decide(&plan, &measured), Step::RollBack(_));
            prop_assert!(!rolls_back || watched);
            prop_assert!(!watched || rolls_back || inside(&plan, &measured, true));
        }

        #[test]
        fn a_paused_plan_stays_paused_until_an_operator_or_a_hard_limit_acts(plan in plans(), measured in measured()) {
            let paused = Cutover { state: CutoverState::Paused, ..plan };
            let step = decide(&paused, &measured);
            prop_assert!(matches!(step, Step::Stay | Step::RollBack(_)));
            prop_assert!(!paused.by_operator || step == Step::Stay);
        }

        #[test]
        fn what_has_ended_stays_ended(plan in plans(), measured in measured()) {
            for state in [CutoverState::RolledBack, CutoverState::Done] {
                prop_assert_eq!(decide(&Cutover { state, ..plan.clone() }, &measured), Step::Stay);
            }
        }

        #[test]
        fn worse_figures_never_make_a_plan_go_on(plan in plans(), measured in measured(), more in 1u64..100) {
            let worse = |share: Option<Share>| share.map(|Share { bad, of }| Share { bad: (bad + more).min(of), of });
            let worse = Measured {
                failures: worse(measured.failures),
                mismatch: worse(measured.mismatch),
                not_compared: None,
                lag_secs: measured.lag_secs.map(|lag| lag + 1.0),
            };
            prop_assert!(decide(&plan, &worse) != Step::Advance || decide(&plan, &measured) == Step::Advance);
        }
    }
}
