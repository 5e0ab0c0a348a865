//! The contract of [`Moves`].

use super::{contents, message, receive_all, sorted, whole};
use crate::eventually;
use switchyard_bus::{Message, Move, MoveStatus, Moves, Queue};

/// A dead-letter queue and a queue to move to, both empty and used by no other test.
pub struct MovesRig<M, Q> {
    /// What moves.
    pub moves: M,
    /// The dead-letter queue.
    pub dead_letters: Q,
    /// Its ARN.
    pub dead_letter_arn: String,
    /// The queue to move to, which is no dead-letter queue.
    pub queue: Q,
    /// Its ARN.
    pub queue_arn: String,
    /// The ARN of a queue that does not exist.
    pub no_queue_arn: String,
}

/// Every promise of moves.
pub async fn keeps_what_moves_promise<M: Moves, Q: Queue>(rig: MovesRig<M, Q>) {
    assert_eq!(rig.moves.list(&rig.dead_letter_arn).await.unwrap(), [], "nothing was ever moved");
    rig.moves_the_whole_queue_and_changes_no_message().await;
    rig.runs_one_at_a_time_and_can_be_cancelled().await;
    rig.takes_any_rate().await;
    rig.refuses_what_cannot_be_moved().await;
}

impl<M: Moves, Q: Queue> MovesRig<M, Q> {
    async fn start(&self, per_second: Option<u16>) -> String {
        self.moves.start(&self.dead_letter_arn, &self.queue_arn, per_second).await.expect("it starts")
    }

    async fn newest(&self) -> Move {
        self.moves.list(&self.dead_letter_arn).await.expect("a list").into_iter().next().expect("a move")
    }

    async fn ends(&self, status: MoveStatus) -> Move {
        eventually(&format!("{status:?}"), async || Some(self.newest().await).filter(|newest| newest.status == status))
            .await
    }

    async fn moves_the_whole_queue_and_changes_no_message(&self) {
        let messages: Vec<Message> = (0..12).map(|n| message(&format!("{{\"n\":  {n}.0}}"))).collect();
        assert_eq!(self.dead_letters.send(&messages).await, vec![Ok(()); 12]);

        self.start(None).await;
        let done = self.ends(MoveStatus::Completed).await;

        assert_eq!((done.moved, done.handle, done.failure), (12, None, None));
        assert!(done.started_at.is_some());
        let received = receive_all(&self.queue, 12).await;
        assert_eq!(contents(&received), sorted(messages.iter().map(whole)));
        assert!(self.dead_letters.depth().await.unwrap().is_empty());
        take_away(&self.queue, received).await;
    }

    async fn runs_one_at_a_time_and_can_be_cancelled(&self) {
        let messages: Vec<Message> = (0..20).map(|n| message(&n.to_string())).collect();
        assert_eq!(self.dead_letters.send(&messages).await, vec![Ok(()); 20]);

        let handle = self.start(Some(1)).await;
        let second = self.moves.start(&self.dead_letter_arn, &self.queue_arn, None).await.unwrap_err();
        assert!(!second.transient && !second.setup, "one at a time: {second}");
        let running =
            eventually("progress", async || Some(self.newest().await).filter(|newest| newest.moved > 0)).await;
        assert!(running.status.is_running());
        assert_eq!((running.handle.as_ref(), running.to_move), (Some(&handle), Some(20)));

        let moved = self.moves.cancel(&handle).await.unwrap();
        assert!(moved >= running.moved, "{moved}");
        let stopped = self.ends(MoveStatus::Cancelled).await;
        assert!(stopped.moved >= moved && stopped.moved < 20, "{stopped:?}");
        assert!(self.moves.cancel(&handle).await.is_err_and(|error| !error.transient), "it is over");

        let there = usize::try_from(stopped.moved).unwrap();
        let moved = receive_all(&self.queue, there).await;
        let left = receive_all(&self.dead_letters, 20 - there).await;
        let all = [moved.clone(), left.clone()].concat();
        assert_eq!(contents(&all), sorted(messages.iter().map(whole)), "each is in one of the two");
        take_away(&self.queue, moved).await;
        take_away(&self.dead_letters, left).await;
        let statuses: Vec<MoveStatus> = self.list().await.iter().map(|one| one.status).collect();
        assert_eq!(statuses, [MoveStatus::Cancelled, MoveStatus::Completed], "newest first");
    }

    async fn list(&self) -> Vec<Move> {
        self.moves.list(&self.dead_letter_arn).await.unwrap()
    }

    async fn takes_any_rate(&self) {
        for rate in [0, u16::MAX] {
            self.start(Some(rate)).await;
            self.ends(MoveStatus::Completed).await;
        }
    }

    async fn refuses_what_cannot_be_moved(&self) {
        let plain = self.moves.start(&self.queue_arn, &self.dead_letter_arn, None).await.unwrap_err();
        assert!(!plain.transient, "only dead-letter queues are moved from: {plain}");
        let nowhere = self.moves.start(&self.dead_letter_arn, &self.no_queue_arn, None).await.unwrap_err();
        assert!(!nowhere.transient && nowhere.setup, "{nowhere}");
        let unknown = self.moves.list(&self.no_queue_arn).await.unwrap_err();
        assert!(!unknown.transient && unknown.setup, "{unknown}");
        assert!(self.moves.cancel("no such handle").await.is_err_and(|error| !error.transient));
    }
}

async fn take_away(queue: &impl Queue, received: Vec<switchyard_bus::Received>) {
    let handles: Vec<String> = received.into_iter().map(|one| one.receipt_handle).collect();
    assert!(queue.delete(&handles).await.iter().all(Result::is_ok));
}
