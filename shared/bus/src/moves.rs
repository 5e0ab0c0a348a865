//! Moving a whole dead-letter queue back, by the service itself.

mod memory;
mod sqs;

pub use memory::MemoryMoves;
pub use sqs::SqsMoves;

use crate::BusError;
use std::time::SystemTime;

/// The fastest that a move can be asked to be, in messages a second (Amazon SQS API Reference, StartMessageMoveTask).
pub const MOVES_PER_SECOND: u16 = 500;

/// One move, running or over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// What cancels it; only while it runs.
    pub handle: Option<String>,
    /// How far it is.
    pub status: MoveStatus,
    /// How many messages it has moved, approximately.
    pub moved: i64,
    /// How many there were to move when it started, approximately; None where the service does not say.
    pub to_move: Option<i64>,
    /// When it started; None where the service does not say.
    pub started_at: Option<SystemTime>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveStatus {
    /// Messages are being moved.
    Running,
    /// The queue was found empty.
    Completed,
    /// About to stop; some messages may still move.
    Cancelling,
    /// Stopped; the other messages are where they were.
    Cancelled,
    /// Stopped by a fault: see [`Move::failure`]. The other messages are where they were.
    Failed,
}

impl MoveStatus {
    /// Whether it may still move messages.
    #[must_use]
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Cancelling)
    }
}

/// Moves of dead-letter queues. Every message is in one of the two queues at any time, and never in both for good.
///
/// A move takes what is visible when it comes by, messages that arrived after its start included, until the queue is found empty. It has no
/// filter. One runs for a queue at a time. Only the dead-letter queue of another queue can be moved from,
/// not the dead-letter queue of a subscription.
#[allow(async_fn_in_trait)]
pub trait Moves {
    /// Starts a move and returns its handle. The destination is always named: a message that was sent straight to a dead-letter queue has
    /// no origin to go back to. `per_second` is held within 1 and [`MOVES_PER_SECOND`]; None is as fast as the service likes.
    ///
    /// # Errors
    /// [`BusError`], not transient: a move of this queue is running, or the queue is no dead-letter queue; `setup` where a queue does not
    /// exist. After a transient one the move may have started: ask [`Moves::list`].
    async fn start(&self, dead_letter_arn: &str, to_arn: &str, per_second: Option<u16>) -> Result<String, BusError>;

    /// The last moves of a dead-letter queue, at most ten, newest first.
    ///
    /// # Errors
    /// [`BusError`] where the service does not answer or the queue does not exist (`setup`).
    async fn list(&self, dead_letter_arn: &str) -> Result<Vec<Move>, BusError>;

    /// Stops a move; returns how many messages it has moved so far, approximately. It ends soon after, not at once.
    ///
    /// # Errors
    /// [`BusError`], not transient: the handle is not valid, or its move is over.
    async fn cancel(&self, handle: &str) -> Result<i64, BusError>;
}

/// The rate, within what the service takes.
fn rate(per_second: u16) -> u16 {
    per_second.clamp(1, MOVES_PER_SECOND)
}
