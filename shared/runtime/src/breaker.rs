//! The agent's breaker: while what it depends on is down, its records are returned untried instead of failing one by one.
//!
//! The state is in the ledger, for all processes of the agent, and comes with the preview. Each process remembers how many records in a row have
//! found the dependency down. Five of them open the breaker; the steward pauses the queue, and half-opens the breaker when the wait is over; then one
//! record of one process at a time is tried, and its outcome closes the breaker or opens it for longer. A state that an operator has forced is a
//! state like any other: the ledger ignores what the runtime reports against it.

use crate::{
    batch::Admitted,
    outcome::{Cause, Outcome, Outcomes},
};
use std::time::Duration;
use switchyard_agent::Refusal;
use switchyard_store::{BreakerState, Store};

/// How many records in a row must find the dependency down. One can be bad luck; a batch is up to ten.
const IN_A_ROW: u32 = 5;

/// How long records wait, at most, while another one is tried: it is over in seconds.
const WHILE_PROBING: Duration = Duration::from_secs(10);

/// What a record that was tried shows about what the agent depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Evidence {
    /// It is down: in the agent's words.
    Down(String),
    /// It is up: the record was done, or judged for good.
    Up,
    /// It answered, and the record failed.
    Failed,
    /// Nothing: our own database, the time, or it was not asked.
    None,
}

impl Evidence {
    fn of(outcome: Option<&Outcome>) -> Self {
        match outcome {
            Some(Outcome::Returned { why, cause: Cause::Dependency }) => Self::Down(why.clone().into_owned()),
            Some(Outcome::Retry { detail, unanswered: true, .. }) => Self::Down(detail.clone()),
            Some(Outcome::Finished(Outcome::WITHOUT_ANSWER)) => Self::None,
            Some(Outcome::Finished(_) | Outcome::Park { .. }) => Self::Up,
            Some(Outcome::Retry { .. }) => Self::Failed,
            Some(Outcome::Returned { .. } | Outcome::SameAs(_)) | None => Self::None,
        }
    }
}

/// What each of the records that were tried has shown. That there was no answer is stored in shadow mode, and shows that the dependency is down where
/// no other record was answered either.
fn evidence(tried: &[usize], outcomes: &Outcomes<'_>) -> Vec<Evidence> {
    let answered = tried.iter().any(|at| is_answered(outcomes.outcome(*at)));
    let of = |at: &usize| match outcomes.outcome(*at) {
        Some(Outcome::Finished(Outcome::WITHOUT_ANSWER)) if !answered => {
            Evidence::Down(Refusal::Unanswered.to_string())
        }
        outcome => Evidence::of(outcome),
    };
    tried.iter().map(of).collect()
}

/// Whether this outcome shows that the agent was answered.
pub(crate) fn is_answered(outcome: Option<&Outcome>) -> bool {
    matches!(Evidence::of(outcome), Evidence::Up | Evidence::Failed)
}

/// What to report to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Report {
    Trip(String),
    Recovered,
}

/// How many records in a row have found the dependency down; the memory of a process.
#[derive(Debug, Default)]
pub(crate) struct Streak(u32);

impl Streak {
    /// What follows from these records, in the order in which they stood in the batch, where the breaker was found in this state. Pure.
    fn judge(&mut self, state: BreakerState, evidence: impl IntoIterator<Item = Evidence>) -> Option<Report> {
        for evidence in evidence {
            match (state, evidence) {
                (_, Evidence::None) | (BreakerState::Open, _) | (BreakerState::Closed, Evidence::Failed) => {}
                (BreakerState::HalfOpen, Evidence::Down(why)) => return Some(Report::Trip(why)),
                (BreakerState::HalfOpen, Evidence::Up | Evidence::Failed) => {
                    self.0 = 0;
                    return Some(Report::Recovered);
                }
                (BreakerState::Closed, Evidence::Up) => self.0 = 0,
                (BreakerState::Closed, Evidence::Down(why)) => {
                    self.0 += 1;
                    if self.0 >= IN_A_ROW {
                        self.0 = 0;
                        return Some(Report::Trip(why));
                    }
                }
            }
        }
        None
    }
}

/// Lets through what may be tried: everything, one record, or nothing. The others come again and have cost no attempt.
pub(crate) async fn layer(
    store: &Store,
    agent: &str,
    state: BreakerState,
    mut admitted: Vec<Admitted>,
    outcomes: &mut Outcomes<'_>,
) -> Vec<Admitted> {
    let returned = match state {
        BreakerState::Closed => return admitted,
        BreakerState::Open => std::mem::take(&mut admitted),
        BreakerState::HalfOpen if admitted.is_empty() => return admitted,
        BreakerState::HalfOpen => {
            let one = usize::from(may_probe(store, agent).await);
            admitted.split_off(one)
        }
    };
    for record in returned {
        let (why, cause) = match state {
            BreakerState::HalfOpen => {
                let turn = WHILE_PROBING.mul_f64(0.5 + fastrand::f64() / 2.0);
                ("the breaker is half-open, and another record is being tried", Cause::Turn(turn))
            }
            _ => ("the breaker is open", Cause::Passing),
        };
        record.return_untried(why, cause, outcomes);
    }
    admitted
}

async fn may_probe(store: &Store, agent: &str) -> bool {
    store.probe(agent).await.unwrap_or_else(|error| {
        tracing::warn!(agent, %error, "the ledger did not answer whether the breaker lets a record through: none is tried");
        false
    })
}

/// Reports to the ledger what the records that were tried have shown. Where the ledger does not answer, a later batch reports.
pub(crate) async fn report(
    store: &Store,
    agent: &str,
    state: BreakerState,
    streak: &mut Streak,
    tried: &[usize],
    outcomes: &Outcomes<'_>,
) {
    let reported = match streak.judge(state, evidence(tried, outcomes)) {
        None => return,
        Some(Report::Recovered) => store.recovered(agent).await,
        Some(Report::Trip(why)) => {
            tracing::error!(agent, error = why, "what the agent depends on is down: its breaker opens");
            store.trip(agent, &why).await
        }
    };
    if let Err(error) = reported {
        tracing::warn!(agent, %error, "the breaker's change could not be reported to the ledger");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BreakerState::{Closed, HalfOpen, Open};
    use proptest::prelude::*;

    fn down() -> Evidence {
        Evidence::Down("no model".into())
    }

    fn trip() -> Option<Report> {
        Some(Report::Trip("no model".into()))
    }

    #[test]
    fn the_fifth_in_a_row_opens_it_over_as_many_batches_as_it_takes() {
        let mut streak = Streak::default();
        assert_eq!(streak.judge(Closed, [down(), down()]), None);
        assert_eq!(streak.judge(Closed, [down(), down(), down()]), trip());
        assert_eq!(streak.judge(Closed, [down(), down(), down(), down()]), None, "and counts from nothing again");
    }

    #[test]
    fn one_success_in_between_starts_the_count_anew_and_a_failure_does_not() {
        let mut streak = Streak::default();
        let four = [down(), down(), down(), down()];
        assert_eq!(streak.judge(Closed, four.clone().into_iter().chain([Evidence::Up]).chain(four.clone())), None);
        assert_eq!(streak.judge(Closed, [Evidence::Failed, Evidence::None, down()]), trip());
    }

    #[test]
    fn a_probe_closes_it_unless_the_dependency_is_still_down() {
        for (evidence, report) in [
            (down(), trip()),
            (Evidence::Up, Some(Report::Recovered)),
            (Evidence::Failed, Some(Report::Recovered)),
            (Evidence::None, None),
        ] {
            assert_eq!(Streak::default().judge(HalfOpen, [evidence]), report);
        }
    }

    #[test]
    fn a_record_that_was_never_answered_is_evidence_though_it_cost_an_attempt() {
        let retry = |unanswered| Outcome::Retry { detail: "no model".into(), after: None, unanswered };
        assert_eq!(Evidence::of(Some(&retry(true))), down());
        assert_eq!(Evidence::of(Some(&retry(false))), Evidence::Failed);
        assert!(is_answered(Some(&retry(false))) && !is_answered(Some(&retry(true))));
        let stored = Outcome::Finished(Outcome::WITHOUT_ANSWER);
        assert!(!is_answered(Some(&stored)), "in shadow mode it is stored");
    }

    #[test]
    fn our_own_database_is_no_evidence() {
        assert_eq!(Evidence::of(Some(&Outcome::returned("the database is down"))), Evidence::None);
        let dependency = Outcome::Returned { why: "no model".into(), cause: Cause::Dependency };
        assert_eq!(Evidence::of(Some(&dependency)), down());
    }

    proptest! {
        #[test]
        fn it_opens_exactly_when_five_in_a_row_were_down(records in prop::collection::vec(0u8..4, 0..60), batch in 1usize..11) {
            let evidence = |kind: &u8| match kind {
                0 | 1 => down(),
                2 => Evidence::Up,
                _ => Evidence::None,
            };
            let mut streak = Streak::default();
            let (mut row, mut expected, mut trips) = (0, 0, 0);
            for batch in records.chunks(batch) {
                let mut rest = batch.iter();
                trips += u32::from(streak.judge(Closed, rest.by_ref().map(evidence)).is_some());
                // What stands behind the fifth in its batch is not counted: it was tried before the breaker opened.
                for kind in batch {
                    row = match kind { 0 | 1 => row + 1, 2 => 0, _ => row };
                    if row == IN_A_ROW {
                        (row, expected) = (0, expected + 1);
                        break;
                    }
                }
            }
            prop_assert_eq!(trips, expected);
        }

        #[test]
        fn nothing_is_reported_to_an_open_breaker(records in prop::collection::vec(0u8..2, 0..20)) {
            let evidence = records.into_iter().map(|kind| if kind == 0 { down() } else { Evidence::Up });
            prop_assert_eq!(Streak::default().judge(Open, evidence), None);
        }
    }
}
