//! Moves by SQS: message move tasks.

use super::{Move, MoveStatus, Moves, rate};
use crate::BusError;
use aws_sdk_sqs::types::ListMessageMoveTasksResultEntry;
use std::time::{Duration, SystemTime};

/// Message move tasks of SQS.
#[derive(Debug, Clone)]
pub struct SqsMoves {
    client: aws_sdk_sqs::Client,
}

impl SqsMoves {
    /// Moves in the account and region of these settings.
    #[must_use]
    pub fn new(settings: &aws_config::SdkConfig) -> Self {
        Self { client: aws_sdk_sqs::Client::new(settings) }
    }
}

impl Moves for SqsMoves {
    async fn start(&self, dead_letter_arn: &str, to_arn: &str, per_second: Option<u16>) -> Result<String, BusError> {
        const OPERATION: &str = "StartMessageMoveTask";
        let call = self
            .client
            .start_message_move_task()
            .source_arn(dead_letter_arn)
            .destination_arn(to_arn)
            .set_max_number_of_messages_per_second(per_second.map(|wanted| i32::from(rate(wanted))));
        let answer = Box::pin(call.send()).await.map_err(|error| BusError::of(OPERATION, &error))?;
        answer.task_handle.ok_or_else(|| BusError::refused(OPERATION, "the answer has no handle", true))
    }

    async fn list(&self, dead_letter_arn: &str) -> Result<Vec<Move>, BusError> {
        let call = self.client.list_message_move_tasks().source_arn(dead_letter_arn).max_results(10);
        let answer = Box::pin(call.send()).await.map_err(|error| BusError::of("ListMessageMoveTasks", &error))?;
        Ok(answer.results.unwrap_or_default().into_iter().map(entry).collect())
    }

    async fn cancel(&self, handle: &str) -> Result<i64, BusError> {
        let call = self.client.cancel_message_move_task().task_handle(handle);
        let answer = Box::pin(call.send()).await.map_err(|error| BusError::of("CancelMessageMoveTask", &error))?;
        Ok(answer.approximate_number_of_messages_moved)
    }
}

fn entry(entry: ListMessageMoveTasksResultEntry) -> Move {
    let started = u64::try_from(entry.started_timestamp).ok().filter(|millis| *millis > 0);
    Move {
        handle: entry.task_handle,
        status: status(entry.status.as_deref().unwrap_or_default()),
        moved: entry.approximate_number_of_messages_moved,
        to_move: entry.approximate_number_of_messages_to_move,
        started_at: started.and_then(|millis| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))),
        failure: entry.failure_reason,
    }
}

/// The five statuses of the service. An unknown one counts as running: then no second move is started and no caller relies on the end of the first.
fn status(word: &str) -> MoveStatus {
    match word {
        "COMPLETED" => MoveStatus::Completed,
        "CANCELLING" => MoveStatus::Cancelling,
        "CANCELLED" => MoveStatus::Cancelled,
        "FAILED" => MoveStatus::Failed,
        _ => MoveStatus::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_final_status_ends_a_move() {
        let running = |word| status(word).is_running();
        assert_eq!(["RUNNING", "CANCELLING", "", "PAUSED"].map(running), [true; 4]);
        assert_eq!(["COMPLETED", "CANCELLED", "FAILED"].map(running), [false; 3]);
    }
}
