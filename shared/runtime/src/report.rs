//! Carries out what each outcome asks for: acknowledgement, redelivery after a backoff, or the dead-letter queue; and reports it to the ledger.

use crate::{
    answers::Answers,
    message::Message,
    outcome::{Ended, Outcome, Outcomes},
    park::{Of, Parking},
    step::{Step, returned, step},
};
use jiff::Timestamp;
use std::{cell::Cell, time::Duration};
use switchyard_agent::Schedule;
use switchyard_bus::{Message as BusMessage, Queues, Visibility};
use switchyard_store::{Ask, ClaimAnswer, Failed, ParkReport, Store, StoreError, Unidentified, Verdict};

/// How many returns a process remembers that it could not report to the ledger.
const REMEMBERED: usize = 1_000;

/// Who reports, and where to.
pub(crate) struct Reporter<'a, Q> {
    pub(crate) agent: &'static str,
    pub(crate) schedule: Schedule,
    pub(crate) store: &'a Store,
    pub(crate) queues: &'a Q,
    /// Returns that are not reported to the ledger yet.
    pub(crate) unreported: &'a Cell<Vec<Ask>>,
}

impl<Q: Queues> Reporter<'_, Q> {
    /// Carries out what has ended since the last time, and notes the answers.
    pub(crate) async fn carry_out(&self, outcomes: &mut Outcomes<'_>, answers: &mut Answers) {
        let ended = outcomes.take();
        let messages = outcomes.messages;
        let (mut failures, mut parkings, mut redeliveries) = (Vec::new(), Vec::new(), Vec::new());
        let mut returns = Vec::new();
        for ended in &ended {
            self.log(ended, outcomes);
            let (at, standing) = (ended.at, ended.standing.as_ref());
            let message = &messages[at];
            match step(&ended.outcome, standing, message, self.schedule, fastrand::f64(), Timestamp::now()) {
                None => answers.acknowledge(at),
                Some(Step::Fail { failed, backoff }) => failures.push((at, failed, backoff)),
                Some(Step::Park(parking)) => parkings.push((at, parking)),
                Some(Step::Return { after }) => {
                    redeliveries.push((at, after));
                    returns.extend(returned(message, standing));
                }
            }
        }
        for ((at, failed, backoff), attempts_used_up) in self.count(failures).await {
            match attempts_used_up {
                Some(attempts) => parkings.push((at, Parking::used_up(failed, attempts))),
                None => redeliveries.push((at, backoff)),
            }
        }
        for at in self.park(messages, parkings).await {
            answers.acknowledge(at);
        }
        redeliveries.iter().for_each(|(at, after)| answers.redeliver(*at, *after));
        self.delay(outcomes, &redeliveries).await;
        // A standing is an answer of the ledger: the next one is worth asking for.
        let ledger_answers = ended.iter().any(|ended| ended.standing.is_some());
        let longest = redeliveries.iter().map(|(_, after)| *after).max().unwrap_or_default();
        self.report_returns(returns, longest, ledger_answers).await;
    }

    /// Asks the queue to deliver records again after so long, each with its copies.
    async fn delay(&self, outcomes: &Outcomes<'_>, redeliveries: &[(usize, Duration)]) {
        let mut changes = Vec::with_capacity(redeliveries.len());
        for (at, after) in redeliveries {
            for at in std::iter::once(*at).chain(outcomes.copies(*at)) {
                let Message { receipt, queue, .. } = &outcomes.messages[at];
                let (receipt_handle, queue_arn) = (receipt.clone(), queue.clone());
                changes.push(Visibility { receipt_handle, queue_arn, delay: *after });
            }
        }
        if !changes.is_empty() {
            self.queues.set_visibility(&changes).await;
        }
    }

    /// Reports to the ledger what was returned without an attempt, all in one round trip: it is not lost, and the return explains why it is received
    /// again. What cannot be reported now is reported with a later batch.
    async fn report_returns(&self, returns: Vec<Ask>, longest: Duration, ledger_answers: bool) {
        let mut asks = self.unreported.take();
        asks.extend(returns);
        if ledger_answers && !asks.is_empty() {
            match self.store.returned(self.agent, &asks, longest).await {
                Ok(_) => asks.clear(),
                Err(error) => tracing::warn!(agent = self.agent, %error, "returns could not be reported to the ledger"),
            }
        }
        asks.truncate(REMEMBERED);
        self.unreported.set(asks);
    }

    /// Counts failed attempts in the ledger, all in one round trip; says which of them were the last, and after how many.
    async fn count(&self, failures: Vec<(usize, Failed, Duration)>) -> Vec<((usize, Failed, Duration), Option<u16>)> {
        if failures.is_empty() {
            return Vec::new();
        }
        let reports: Vec<Failed> = failures.iter().map(|(_, failed, _)| failed.clone()).collect();
        let counted = match self.store.fail(self.agent, &reports).await {
            Ok(counted) => counted.into_iter().map(|now| now.exhausted().then_some(now.attempts)).collect(),
            Err(error) => {
                let (agent, records) = (self.agent, reports.len());
                tracing::warn!(agent, %error, records, "attempts could not be counted: they cost nothing");
                vec![None; reports.len()]
            }
        };
        switchyard_faults::point("runtime.after_fail");
        failures.into_iter().zip(counted).collect()
    }

    /// Parks: the dead-letter queue first, then the row, then the acknowledgement. A crash in between doubles a copy at worst. Returns the
    /// places of those that are parked; the others are delivered again.
    async fn park(&self, messages: &[Message], parkings: Vec<(usize, Parking)>) -> Vec<usize> {
        if parkings.is_empty() {
            return Vec::new();
        }
        let agent = self.agent;
        let dead_letters: Vec<BusMessage> =
            parkings.iter().map(|(at, parking)| parking.dead_letter(agent, &messages[*at])).collect();
        let (mut deliveries, mut unidentified, mut parked) = (Vec::new(), Vec::new(), Vec::new());
        for ((at, parking), answer) in parkings.into_iter().zip(self.queues.dead_letter(&dead_letters).await) {
            match answer {
                Ok(()) => match &parking.of {
                    Of::Delivery(ask) => deliveries.push((at, parking.report(ask.clone()))),
                    Of::Unidentified => unidentified.push((at, parking.unidentified(&messages[at]))),
                    Of::Parked => parked.push(at),
                },
                Err(error) => {
                    tracing::warn!(agent, %error, "the dead-letter queue did not take a message: it is delivered again");
                }
            }
        }
        switchyard_faults::point("runtime.after_dead_letter");
        let (places, reports): (Vec<usize>, Vec<ParkReport>) = deliveries.into_iter().unzip();
        if !reports.is_empty() {
            let recorded = self.store.park(agent, &reports).await.map(|_| ());
            parked.extend(self.recorded(places, recorded));
        }
        let (places, reports): (Vec<usize>, Vec<Unidentified>) = unidentified.into_iter().unzip();
        if !reports.is_empty() {
            let recorded = self.store.park_unidentified(agent, &reports).await;
            parked.extend(self.recorded(places, recorded));
        }
        switchyard_faults::point("runtime.after_park");
        parked
    }

    /// The places of records that the ledger has recorded as parked.
    fn recorded(&self, places: Vec<usize>, recorded: Result<(), StoreError>) -> Vec<usize> {
        match recorded {
            Ok(()) => places,
            Err(error) => {
                let (agent, records) = (self.agent, places.len());
                tracing::warn!(agent, %error, records, "parked records could not be recorded: they are delivered again");
                Vec::new()
            }
        }
    }

    /// One line for each record, with the same fields.
    fn log(&self, ended: &Ended, outcomes: &Outcomes<'_>) {
        let (agent, standing) = (self.agent, ended.standing.as_ref());
        let message = &outcomes.messages[ended.at];
        let known = outcomes.event(ended.at);
        let event = known.map(|(id, _)| tracing::field::display(id));
        let event_type = known.map(|(_, event_type)| tracing::field::display(event_type));
        let attempt = standing.map(|standing| standing.attempts + 1);
        match &ended.outcome {
            Outcome::Finished(_) if is_parked(standing) && message.was_parked().is_some() => {
                tracing::warn!(
                    agent, event.id = event, event.type = event_type, attempt,
                    "moved back while its delivery is parked: it returns to the dead-letter queue"
                );
            }
            Outcome::Finished(what) => {
                tracing::info!(agent, event.id = event, event.type = event_type, attempt, "{what}");
            }
            Outcome::Retry { detail, .. } => {
                tracing::warn!(agent, event.id = event, event.type = event_type, attempt, error = detail, "failed");
            }
            Outcome::Returned { why, .. } => {
                tracing::warn!(agent, event.id = event, event.type = event_type, attempt, %why, "returned without an attempt");
            }
            Outcome::Park { reason, detail } => {
                let message_id = &message.id;
                tracing::error!(
                    agent, event.id = event, event.type = event_type, attempt,
                    %reason, error = detail, message.id = message_id, "parked"
                );
            }
            Outcome::SameAs(_) => {}
        }
    }
}

fn is_parked(standing: Option<&ClaimAnswer>) -> bool {
    standing.is_some_and(|standing| standing.verdict == Verdict::Parked)
}
