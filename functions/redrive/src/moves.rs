//! Move tasks: which one runs, how far it is, how long it may take.

use jiff::Timestamp;
use switchyard_bus::{Kind, Move, MoveStatus};
use switchyard_operations::redrive::Moving;

/// The assumed speed of a move task without a set speed, in messages per second: far below what SQS does, since the table must not send what is still to
/// be moved.
const ASSUMED_SPEED: u64 = 50;
/// How long deliveries are deferred beyond the time that the move takes.
const MARGIN_SECS: u64 = 60;
/// The longest deferral. The claim refuses a copy.
const LONGEST_DEFER_SECS: u64 = 3_600;

/// Whether a redrive to a queue of this kind can have a speed: only a move task has one.
///
/// # Errors
/// One line for the person who asked, with what there is instead.
pub(crate) fn speed(kind: Kind, per_second: Option<u16>) -> Result<(), String> {
    match (kind, per_second) {
        (Kind::Fifo, Some(_)) => Err("per_second is the speed of a move task, and on FIFO everything goes from the table, in the order of the log: \
                                      leave it out, or send some at a time (at_most)"
            .to_owned()),
        _ => Ok(()),
    }
}

/// The task that runs, if one does: SQS runs one at a time for each queue.
pub(crate) fn running(moves: &[Move]) -> Option<&Move> {
    moves.iter().find(|task| task.status.is_running())
}

/// The running task, or else the latest.
pub(crate) fn latest(moves: &[Move]) -> Option<&Move> {
    running(moves).or_else(|| moves.first())
}

/// The task that a cancellation is about: the running one, or the latest if that was cancelled, since its caller may have stopped before parking the
/// remaining deliveries again.
pub(crate) fn to_cancel(moves: &[Move]) -> Option<&Move> {
    latest(moves).filter(|task| task.status.is_running() || task.status == MoveStatus::Cancelled)
}

/// How long deliveries are deferred while so many dead letters are moved.
pub(crate) fn defer_secs(dead_letters: u64, per_second: Option<u16>) -> u32 {
    let speed = per_second.map_or(ASSUMED_SPEED, u64::from).max(1);
    let secs = (MARGIN_SECS + dead_letters.div_ceil(speed)).min(LONGEST_DEFER_SECS);
    u32::try_from(secs).unwrap_or(u32::MAX)
}

/// A task as answers show it.
pub(crate) fn answer(task: &Move) -> Moving {
    Moving {
        status: word(task.status).to_owned(),
        moved: task.moved,
        to_move: task.to_move,
        started_at: task.started_at.and_then(|at| Timestamp::try_from(at).ok()).map(|at| at.to_string()),
        failure: task.failure.clone(),
    }
}

/// The words of the SQS API.
fn word(status: MoveStatus) -> &'static str {
    match status {
        MoveStatus::Running => "RUNNING",
        MoveStatus::Completed => "COMPLETED",
        MoveStatus::Cancelling => "CANCELLING",
        MoveStatus::Cancelled => "CANCELLED",
        MoveStatus::Failed => "FAILED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_came_to_its_own_end_is_not_cancelled() {
        let task = |status| Move { handle: None, status, moved: 0, to_move: None, started_at: None, failure: None };
        let of = |statuses: &[MoveStatus]| {
            let moves: Vec<Move> = statuses.iter().copied().map(task).collect();
            to_cancel(&moves).map(|task| task.status)
        };
        use MoveStatus::{Cancelled, Cancelling, Completed, Failed, Running};
        assert_eq!(of(&[Running, Cancelled]), Some(Running));
        assert_eq!(of(&[Cancelling, Completed]), Some(Cancelling));
        assert_eq!(of(&[Cancelled, Completed]), Some(Cancelled));
        assert_eq!([of(&[Completed, Cancelled]), of(&[Failed, Cancelled]), of(&[])], [None; 3]);
    }

    #[test]
    fn the_table_waits_as_long_as_the_move_may_take_and_an_hour_at_most() {
        assert_eq!(defer_secs(0, None), 60);
        assert_eq!(defer_secs(1_000, None), 60 + 20);
        assert_eq!(defer_secs(1_000, Some(500)), 60 + 2);
        assert_eq!(defer_secs(10, Some(1)), 70);
        assert_eq!(defer_secs(u64::MAX / 2, Some(1)), 3_600);
    }
}
