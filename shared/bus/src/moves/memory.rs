//! Moves in memory. Each [`Moves::list`] is a second: a running move goes on by one second's worth.

use super::{MOVES_PER_SECOND, Move, MoveStatus, Moves, rate};
use crate::{BusError, MemoryQueue};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// Moves between queues in memory. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct MemoryMoves {
    queues: BTreeMap<String, MemoryQueue>,
    dead_letters: BTreeSet<String>,
    tasks: Arc<Mutex<Vec<Task>>>,
}

#[derive(Debug)]
struct Task {
    from: String,
    to: MemoryQueue,
    per_second: usize,
    seen: Move,
}

impl MemoryMoves {
    /// The same with one more queue to move to.
    #[must_use]
    pub fn queue(mut self, arn: impl Into<String>, queue: &MemoryQueue) -> Self {
        self.queues.insert(arn.into(), queue.clone());
        self
    }

    /// The same with one more dead-letter queue to move from.
    #[must_use]
    pub fn dead_letters(mut self, arn: impl Into<String>, queue: &MemoryQueue) -> Self {
        let arn = arn.into();
        self.dead_letters.insert(arn.clone());
        self.queue(arn, queue)
    }

    fn find(&self, operation: &'static str, arn: &str) -> Result<MemoryQueue, BusError> {
        let missing = || BusError {
            operation,
            detail: format!("ResourceNotFoundException: there is no queue {arn}"),
            transient: false,
            setup: true,
        };
        self.queues.get(arn).cloned().ok_or_else(missing)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<Task>) -> T) -> T {
        work(&mut self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Task {
    fn second(&mut self, from: &MemoryQueue) {
        match self.seen.status {
            MoveStatus::Running => {
                let taken = from.take(self.per_second);
                self.seen.moved += i64::try_from(taken.len()).unwrap_or(i64::MAX);
                if taken.len() < self.per_second {
                    self.end(MoveStatus::Completed);
                }
                self.to.put(taken);
            }
            MoveStatus::Cancelling => self.end(MoveStatus::Cancelled),
            _ => {}
        }
    }

    fn end(&mut self, status: MoveStatus) {
        self.seen.status = status;
        self.seen.handle = None;
    }
}

impl Moves for MemoryMoves {
    async fn start(&self, dead_letter_arn: &str, to_arn: &str, per_second: Option<u16>) -> Result<String, BusError> {
        const OPERATION: &str = "StartMessageMoveTask";
        let from = self.find(OPERATION, dead_letter_arn)?;
        let to = self.find(OPERATION, to_arn)?;
        if !self.dead_letters.contains(dead_letter_arn) {
            return Err(BusError::refused(OPERATION, "the source is no dead-letter queue", false));
        }
        self.with(|tasks| {
            if tasks.iter().any(|task| task.from == dead_letter_arn && task.seen.status.is_running()) {
                return Err(BusError::refused(OPERATION, "there is a task running for this queue", false));
            }
            let handle = format!("move-{}", tasks.len() + 1);
            let to_move = i64::try_from(from.messages().len()).ok();
            let seen = Move {
                handle: Some(handle.clone()),
                status: MoveStatus::Running,
                moved: 0,
                to_move,
                started_at: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(tasks.len() as u64 + 1)),
                failure: None,
            };
            let per_second = usize::from(per_second.map_or(MOVES_PER_SECOND, rate));
            tasks.push(Task { from: dead_letter_arn.to_owned(), to, per_second, seen });
            Ok(handle)
        })
    }

    async fn list(&self, dead_letter_arn: &str) -> Result<Vec<Move>, BusError> {
        let from = self.find("ListMessageMoveTasks", dead_letter_arn)?;
        Ok(self.with(|tasks| {
            let of_this = tasks.iter_mut().rev().filter(|task| task.from == dead_letter_arn).take(10);
            of_this
                .map(|task| {
                    task.second(&from);
                    task.seen.clone()
                })
                .collect()
        }))
    }

    async fn cancel(&self, handle: &str) -> Result<i64, BusError> {
        self.with(|tasks| {
            let running = tasks.iter_mut().find(|task| task.seen.handle.as_deref() == Some(handle));
            let over = || BusError::refused("CancelMessageMoveTask", "no task with this handle is running", false);
            let task = running.filter(|task| task.seen.status == MoveStatus::Running).ok_or_else(over)?;
            task.seen.status = MoveStatus::Cancelling;
            Ok(task.seen.moved)
        })
    }
}
