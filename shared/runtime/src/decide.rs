//! Gather and decide, record by record, within the time that is left.

use crate::batch::{Admitted, Cause, Decided, Ending, Endings};
use futures_util::{FutureExt, future::join_all};
use std::{any::Any, panic::AssertUnwindSafe, time::Duration};
use switchyard_agent::{Agent, Decision, Refusal};
use switchyard_event::Event;
use switchyard_store::{Standing, Verdict};
use tokio::time::{Instant, timeout_at};

/// Why a record is returned that another invocation must take up.
pub(crate) const OUT_OF_TIME: &str = "the time of this invocation ended first";

/// How long a record may gather.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Until then.
    pub(crate) until: Instant,
    /// Whoever had so long and was not done has waited for something that does not answer; with less, the time was too short.
    pub(crate) fair: Duration,
    /// Somebody else of the batch was answered before.
    pub(crate) answered: bool,
}

/// How often a record was given back, for whatever reason, before it is taken for the one that is never answered, where nobody else is there to
/// tell. Mostly it has been tried for some minutes by then; and what is down for longer has opened the breaker, which lets one record try in a quarter
/// of an hour. Without an end it would come again for ever, and on FIFO keep its whole aggregate waiting.
const GIVEN_BACK: u16 = 8;

/// Gathers for all records at the same time and decides. What is not gathered at the deadline has written nothing, and comes again.
pub(crate) async fn layer<A: Agent>(
    agent: &A,
    admitted: Vec<Admitted>,
    patience: Patience,
    endings: &mut Endings<'_>,
) -> Vec<Decided<A::Effect>> {
    let decisions = join_all(admitted.iter().map(|record| one(agent, record, patience))).await;
    switchyard_faults::point("runtime.after_gather");
    let mut decided = Vec::new();
    let others_are_answered = patience.answered || decisions.iter().any(Result::is_ok);
    for (admitted, decision) in admitted.into_iter().zip(decisions) {
        match decision {
            Err(Refusal::Unanswered) => match unanswered(others_are_answered, &admitted.standing) {
                // Nobody waits for another attempt, and that there is no answer is what is compared.
                Ending::Retry { .. } if admitted.standing.verdict == Verdict::Shadow => {
                    decided.push(Decided { admitted, decision: Err(Refusal::Unanswered) });
                }
                ending => endings.end(admitted.parsed.at, ending, Some(admitted.standing)),
            },
            Ok(decision) => decided.push(Decided { admitted, decision }),
            Err(refusal) => {
                let (at, standing) = (admitted.parsed.at, admitted.standing);
                endings.end(at, ending_of(refusal), Some(standing));
            }
        }
    }
    decided
}

/// How a record ends that has had its time and no answer. Where others are answered nothing is down, and it is this one that never ends; where
/// nobody is, it is taken for that once it was given back often enough.
fn unanswered(others_are_answered: bool, standing: &Standing) -> Ending {
    if others_are_answered || standing.returns >= GIVEN_BACK {
        let detail = Refusal::Unanswered.to_string();
        return Ending::Retry { detail, after: None, unanswered: !others_are_answered };
    }
    ending_of(Refusal::Unanswered)
}

/// Decides for one record: what was refused before is not gathered for, and in shadow mode a refusal is a decision like any other.
///
/// # Errors
/// The refusal that ends the record.
pub(crate) async fn one<A: Agent>(
    agent: &A,
    record: &Admitted,
    patience: Patience,
) -> Result<Result<Decision<A::Effect>, Refusal>, Refusal> {
    let decision = match &record.refused {
        Some(reject) => Err(Refusal::Reject(reject.clone())),
        None => decide(agent, &record.parsed.event, patience).await,
    };
    match decision {
        Err(refusal @ (Refusal::Retry { .. } | Refusal::Reject(_))) if record.standing.verdict == Verdict::Shadow => {
            Ok(Err(refusal))
        }
        decision => decision.map(Ok),
    }
}

/// Gathers and decides for one event. A panic is a retry: it takes only its record.
async fn decide<A: Agent>(agent: &A, event: &Event, patience: Patience) -> Result<Decision<A::Effect>, Refusal> {
    let steps = async {
        let facts = agent.gather(event).await?;
        A::decide(event, &facts).map_err(Refusal::from)
    };
    let given = patience.until.saturating_duration_since(Instant::now());
    match timeout_at(patience.until, AssertUnwindSafe(steps).catch_unwind()).await {
        Err(_) if given >= patience.fair => Err(Refusal::Unanswered),
        Err(_) => Err(Refusal::DatabaseDown(OUT_OF_TIME.into())),
        Ok(Err(panic)) => Err(Refusal::retry(said(&*panic))),
        Ok(Ok(decision)) => decision,
    }
}

/// What a panic said.
pub(crate) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}

/// How a refusal ends a record. `Superseded` is the commit's to answer, which settles it: anywhere else it is a mistake of the agent and tried
/// again, since finishing it here would leave it unsettled.
pub(crate) fn ending_of(refusal: Refusal) -> Ending {
    match refusal {
        Refusal::Retry { reason, after } => Ending::Retry { detail: reason, after, unanswered: false },
        Refusal::Reject(reject) => Ending::Park { reason: reject.reason.into(), detail: reject.detail },
        Refusal::Unavailable(why) => Ending::Returned { why: why.into(), cause: Cause::Dependency },
        Refusal::Unanswered => Ending::Returned { why: refusal.to_string().into(), cause: Cause::Dependency },
        Refusal::Edited => Ending::Returned { why: refusal.to_string().into(), cause: Cause::Turn(Duration::ZERO) },
        Refusal::DatabaseDown(why) | Refusal::Conflict(why) => Ending::returned(why),
        Refusal::Superseded => Ending::retry("only `apply` may find an event superseded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::Parsed, parse::Message};
    use switchyard_agent::Reject;
    use switchyard_event::{EventType, NewEvent};
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

        async fn apply((): &(), (): &mut ()) -> Result<Vec<NewEvent>, Refusal> {
            Ok(Vec::new())
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

        async fn apply((): &(), (): &mut ()) -> Result<Vec<NewEvent>, Refusal> {
            Ok(Vec::new())
        }
    }

    fn standing(verdict: Verdict, returns: u16) -> Standing {
        Standing {
            event_id: uuid::Uuid::nil(),
            run: 0,
            verdict,
            seq: Some(1),
            epoch: 0,
            attempts: 0,
            max_attempts: 4,
            returns,
            revision: 0,
            says: true,
        }
    }

    /// How the first of these records ends; none where it goes on to the commit.
    async fn end_of_first(kinds: &[&str], standing: Standing, answered: bool) -> Option<Ending> {
        let messages: Vec<Message> = kinds.iter().map(|_| Message::with_body("")).collect();
        let mut endings = Endings::of(&messages);
        let admitted = kinds.iter().enumerate().map(|(at, kind)| {
            let mut event = Event::parse(include_str!("../../event/fixtures/feedback.created.v1.json")).unwrap();
            event.aggregate_type = (*kind).to_owned();
            let ask = Ask::live(event.id);
            Admitted::of(Parsed { at, event, ask }, standing.clone())
        });
        let until = Instant::now() + Duration::from_millis(20);
        let patience = Patience { until, fair: Duration::from_millis(1), answered };
        layer(&Picky, admitted.collect(), patience, &mut endings).await;
        endings.ending(0).cloned()
    }

    #[tokio::test]
    async fn who_alone_is_not_answered_in_a_batch_has_had_an_attempt_and_who_is_alone_has_not() {
        let ends = async |kinds: &[&str], answered| {
            let ending = end_of_first(kinds, standing(Verdict::Take, 0), answered).await;
            matches!(ending, Some(Ending::Retry { unanswered: false, .. }))
        };
        assert!(ends(&["endless", "post"], false).await, "the others are answered, so nothing is down");
        assert!(ends(&["endless"], true).await, "another one was, in a turn before");
        assert!(!ends(&["endless", "endless"], false).await, "nobody is answered");
        assert!(!ends(&["endless"], false).await);
    }

    #[tokio::test]
    async fn who_is_alone_and_was_given_back_often_enough_has_an_attempt_and_counts_towards_the_breaker() {
        let end = async |verdict, returns| end_of_first(&["endless"], standing(verdict, returns), false).await;
        let Some(Ending::Returned { cause, .. }) = end(Verdict::Take, GIVEN_BACK - 1).await else { panic!("not yet") };
        assert_eq!(cause, Cause::Dependency);
        assert!(matches!(end(Verdict::Take, GIVEN_BACK).await, Some(Ending::Retry { unanswered: true, .. })));
        assert!(matches!(end(Verdict::Shadow, GIVEN_BACK - 1).await, Some(Ending::Returned { .. })));
        assert_eq!(end(Verdict::Shadow, GIVEN_BACK).await, None, "in shadow mode that there is no answer is stored");
        let told = end_of_first(&["endless", "post"], standing(Verdict::Shadow, 0), false).await;
        assert_eq!(told, None, "and at once where others are answered");
    }

    #[tokio::test]
    async fn who_had_little_time_is_no_evidence_that_anything_is_down() {
        let event = Event::parse(include_str!("../../event/fixtures/feedback.created.v1.json")).unwrap();
        let out_of_time = async |fair| {
            let until = Instant::now() + Duration::from_millis(5);
            let refusal = decide(&Waits, &event, Patience { until, fair, answered: false }).await.unwrap_err();
            match ending_of(refusal) {
                Ending::Returned { cause, .. } => cause,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(out_of_time(Duration::from_millis(1)).await, Cause::Dependency);
        assert_eq!(out_of_time(Duration::from_secs(1)).await, Cause::Passing);
    }
}
