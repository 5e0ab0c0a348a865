//! Gather and decide, record by record, within the time that is left.

use crate::{
    batch::{Admitted, Conclusion, Decided},
    outcome::{Outcome, Outcomes},
};
use futures_util::{FutureExt, future::join_all};
use std::{any::Any, panic::AssertUnwindSafe, time::Duration};
use switchyard_agent::{Agent, Decision, Refusal};
use switchyard_event::Event;
use switchyard_store::{ClaimAnswer, Verdict};
use tokio::time::{Instant, timeout_at};

/// How long a record may wait for an answer, and what it means if there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitPolicy {
    /// Until then.
    pub(crate) until: Instant,
    /// A record that had so long and was not done has waited for something that does not answer; with less, the time was too short.
    pub(crate) fair: Duration,
    /// Another record of the batch was answered before.
    pub(crate) answered: bool,
}

/// How often a record is returned, for whatever reason, before it counts as the one that is never answered, where no other record is there to
/// compare with. Mostly it has been tried for some minutes by then; and what is down for longer has opened the breaker, which lets one record try in a
/// quarter of an hour. Without an end it would be delivered for ever, and on FIFO block its whole aggregate.
const MAX_RETURNS: u16 = 8;

/// Gathers for all records at the same time and decides. What is not gathered at the deadline has written nothing, and is delivered again.
pub(crate) async fn layer<A: Agent>(
    agent: &A,
    admitted: Vec<Admitted>,
    policy: WaitPolicy,
    outcomes: &mut Outcomes<'_>,
) -> Vec<Decided<A::Effect>> {
    let decisions = join_all(admitted.iter().map(|record| one(agent, record, policy))).await;
    switchyard_faults::point("runtime.after_gather");
    let mut decided = Vec::new();
    let others_are_answered = policy.answered || decisions.iter().any(Result::is_ok);
    for (admitted, decision) in admitted.into_iter().zip(decisions) {
        match decision {
            Err(Refusal::Unanswered) => match unanswered(others_are_answered, &admitted.standing) {
                // There is no other attempt: that there is no answer is compared.
                Outcome::Retry { .. } if admitted.standing.verdict == Verdict::Shadow => {
                    let conclusion = Conclusion::Refused(Refusal::Unanswered);
                    decided.push(Decided { admitted, conclusion });
                }
                outcome => outcomes.end(admitted.parsed.at, outcome, Some(admitted.standing)),
            },
            Ok(conclusion) => decided.push(Decided { admitted, conclusion }),
            Err(refusal) => {
                let (at, standing) = (admitted.parsed.at, admitted.standing);
                outcomes.end(at, Outcome::of_refusal(refusal), Some(standing));
            }
        }
    }
    decided
}

/// How a record ends that has had its time and no answer. Where others are answered nothing is down, and it is this one that never ends; where
/// none is, it counts as that once it was returned often enough.
fn unanswered(others_are_answered: bool, standing: &ClaimAnswer) -> Outcome {
    if others_are_answered || standing.returns >= MAX_RETURNS {
        let detail = Refusal::Unanswered.to_string();
        return Outcome::Retry { detail, after: None, unanswered: !others_are_answered };
    }
    Outcome::of_refusal(Refusal::Unanswered)
}

/// Decides for one record: what was refused before is not gathered for, and in shadow mode a refusal is a decision like any other.
///
/// # Errors
/// The refusal that ends the record.
pub(crate) async fn one<A: Agent>(
    agent: &A,
    record: &Admitted,
    policy: WaitPolicy,
) -> Result<Conclusion<A::Effect>, Refusal> {
    let decision = match &record.refused {
        Some(reject) => Err(Refusal::Reject(reject.clone())),
        None => decide(agent, &record.parsed.event, policy).await,
    };
    match decision {
        Err(refusal @ (Refusal::Retry { .. } | Refusal::Reject(_))) if record.standing.verdict == Verdict::Shadow => {
            Ok(Conclusion::Refused(refusal))
        }
        decision => decision.map(Conclusion::Decided),
    }
}

/// Gathers and decides for one event. A panic is a retry: it takes only its record.
async fn decide<A: Agent>(agent: &A, event: &Event, policy: WaitPolicy) -> Result<Decision<A::Effect>, Refusal> {
    let steps = async {
        let facts = agent.gather(event).await?;
        A::decide(event, &facts).map_err(Refusal::from)
    };
    let given = policy.until.saturating_duration_since(Instant::now());
    match timeout_at(policy.until, AssertUnwindSafe(steps).catch_unwind()).await {
        Err(_) if given >= policy.fair => Err(Refusal::Unanswered),
        Err(_) => Err(Refusal::OutOfTime),
        Ok(Err(panic)) => Err(Refusal::retry(panic_message(&*panic))),
        Ok(Ok(decision)) => decision,
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::Parsed, message::Message, outcome::Cause};
    use switchyard_agent::Reject;
    use switchyard_event::EventType;
    use switchyard_store::Ask;

    /// Waits for something that does not answer.
    struct Waits;

    impl Agent for Waits {
        const NAME: &'static str = "waits";
        const SUBSCRIBES: &'static [EventType] = &[];

        type Facts = ();
        type Effect = ();
        type Tx = ();

        async fn gather(&self, _: &Event) -> Result<(), Refusal> {
            std::future::pending().await
        }

        fn decide(_: &Event, (): &()) -> Result<Decision<()>, Reject> {
            Ok(Decision::nothing())
        }
    }

    /// Waits for ever where the event says so.
    struct Picky;

    impl Agent for Picky {
        const NAME: &'static str = "picky";
        const SUBSCRIBES: &'static [EventType] = &[];

        type Facts = ();
        type Effect = ();
        type Tx = ();

        async fn gather(&self, event: &Event) -> Result<(), Refusal> {
            if event.aggregate_type == "endless" { std::future::pending().await } else { Ok(()) }
        }

        fn decide(_: &Event, (): &()) -> Result<Decision<()>, Reject> {
            Ok(Decision::nothing())
        }
    }

    fn standing(verdict: Verdict, returns: u16) -> ClaimAnswer {
        ClaimAnswer {
            event_id: uuid::Uuid::nil(),
            run: 0,
            verdict,
            seq: Some(1),
            epoch: 0,
            attempts: 0,
            max_attempts: 4,
            returns,
            revision: 0,
            emits: true,
        }
    }

    /// How the first of these records ends; none where it goes on to the commit.
    async fn end_of_first(kinds: &[&str], standing: ClaimAnswer, answered: bool) -> Option<Outcome> {
        let messages: Vec<Message> = kinds.iter().map(|_| Message::new("m", "r", "")).collect();
        let mut outcomes = Outcomes::of(&messages);
        let admitted = kinds.iter().enumerate().map(|(at, kind)| {
            let mut event = Event::parse(include_str!("../../event/fixtures/order.placed.v1.json")).unwrap();
            event.aggregate_type = (*kind).to_owned();
            let ask = Ask::live(event.id);
            Admitted::of(Parsed { at, event, ask, seal: crate::seal::of("") }, standing.clone())
        });
        let until = Instant::now() + Duration::from_millis(20);
        let policy = WaitPolicy { until, fair: Duration::from_millis(1), answered };
        layer(&Picky, admitted.collect(), policy, &mut outcomes).await;
        outcomes.outcome(0).cloned()
    }

    #[tokio::test]
    async fn the_only_record_of_a_batch_that_is_not_answered_has_had_an_attempt_and_a_record_alone_has_not() {
        let ends = async |kinds: &[&str], answered| {
            let outcome = end_of_first(kinds, standing(Verdict::Take, 0), answered).await;
            matches!(outcome, Some(Outcome::Retry { unanswered: false, .. }))
        };
        assert!(ends(&["endless", "post"], false).await, "the others are answered, so nothing is down");
        assert!(ends(&["endless"], true).await, "another one was, in a turn before");
        assert!(!ends(&["endless", "endless"], false).await, "nobody is answered");
        assert!(!ends(&["endless"], false).await);
    }

    #[tokio::test]
    async fn a_record_alone_that_was_returned_often_enough_has_an_attempt_and_counts_towards_the_breaker() {
        let end = async |verdict, returns| end_of_first(&["endless"], standing(verdict, returns), false).await;
        let Some(Outcome::Returned { cause, .. }) = end(Verdict::Take, MAX_RETURNS - 1).await else {
            panic!("not yet")
        };
        assert_eq!(cause, Cause::Dependency);
        assert!(matches!(end(Verdict::Take, MAX_RETURNS).await, Some(Outcome::Retry { unanswered: true, .. })));
        assert!(matches!(end(Verdict::Shadow, MAX_RETURNS - 1).await, Some(Outcome::Returned { .. })));
        assert_eq!(end(Verdict::Shadow, MAX_RETURNS).await, None, "in shadow mode that there is no answer is stored");
        let stored = end_of_first(&["endless", "post"], standing(Verdict::Shadow, 0), false).await;
        assert_eq!(stored, None, "and at once where others are answered");
    }

    #[tokio::test]
    async fn a_record_that_had_little_time_is_no_evidence_that_anything_is_down() {
        let event = Event::parse(include_str!("../../event/fixtures/order.placed.v1.json")).unwrap();
        let out_of_time = async |fair| {
            let until = Instant::now() + Duration::from_millis(5);
            let refusal = decide(&Waits, &event, WaitPolicy { until, fair, answered: false }).await.unwrap_err();
            match Outcome::of_refusal(refusal) {
                Outcome::Returned { cause, .. } => cause,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(out_of_time(Duration::from_millis(1)).await, Cause::Dependency);
        assert_eq!(out_of_time(Duration::from_secs(1)).await, Cause::Passing);
    }
}
