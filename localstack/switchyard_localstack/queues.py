"""Corrections to LocalStack's queues."""

import threading
from typing import Any

from localstack.aws.api.sqs import UnsupportedOperation
from localstack.services.sqs.models import FifoQueue, MessageMoveTaskStatus, SqsMessage
from localstack.services.sqs.provider import MessageMoveTaskManager, QueueUpdateWorker, Scheduler
from localstack.utils.threads import start_thread

# LocalStack looks once a second for messages whose visibility timeout or delay has ended, so that each comes up to a
# second late: a retry after one second would often take two.
_REQUEUE_SECONDS = 0.2


def install() -> None:
    """Applies all. To be called before the SQS service starts."""
    _redrive_fifo_messages()
    _hold_back_whole_groups_and_no_others()
    _cancel_what_runs()
    _requeue_on_time()


def _redrive_fifo_messages() -> None:
    """A message that is moved back from a FIFO dead-letter queue arrives.

    LocalStack puts it into its old queue under its old deduplication id; within five minutes of its first sending the
    queue drops it as a duplicate, and it is gone from both. On AWS a redrive loses nothing.
    """
    redriving = threading.local()
    run = MessageMoveTaskManager._run
    put = FifoQueue.put

    def _run(self: MessageMoveTaskManager, move_task: Any) -> None:
        redriving.now = True
        try:
            run(self, move_task)
        finally:
            redriving.now = False

    def _put(self: FifoQueue, message: Any, *args: Any, **kwargs: Any) -> SqsMessage:
        if getattr(redriving, "now", False):
            self.deduplication.pop(kwargs.get("message_deduplication_id"), None)
        return put(self, message, *args, **kwargs)

    MessageMoveTaskManager._run = _run
    FifoQueue.put = _put


def _hold_back_whole_groups_and_no_others() -> None:
    """Of a FIFO queue's group nothing is received while one of its messages is in flight, and other groups go on.

    "When you receive a message with a message group ID, no more messages for the same message group ID are returned
    unless you delete the message, or it becomes visible" (Amazon SQS Developer Guide, "FIFO queue delivery logic").
    LocalStack lets a group go as soon as any of its messages is visible again, so that a later one overtakes one that
    is held back; and while any message at all is held back, it returns none of those whose timeout has ended.
    """

    def _put_message(self: FifoQueue, message: SqsMessage) -> None:
        group = self.get_message_group(message.message_group_id)
        with self.mutex:
            was_empty = group.empty()
            group.push(message)
            if group not in self.inflight_groups:
                if was_empty:
                    self.message_group_queue.put_nowait(group)
            elif message.receive_count > 0:
                self.update_message_group_visibility(group)

    def requeue_inflight_messages(self: FifoQueue) -> None:
        with self.mutex:
            for message in [message for message in self.inflight if message.is_visible]:
                del self.inflight[message]
                self._put_message(message)

    FifoQueue._put_message = _put_message
    FifoQueue.requeue_inflight_messages = requeue_inflight_messages


def _cancel_what_runs() -> None:
    """Only a move task that runs can be cancelled (Amazon SQS API Reference, CancelMessageMoveTask).

    LocalStack takes any, and shows one that is over as "CANCELLING" for ever: no other can be started for its queue.
    """
    cancel = MessageMoveTaskManager.cancel

    def _cancel(self: MessageMoveTaskManager, move_task: Any) -> None:
        with self.mutex:
            if move_task.status != MessageMoveTaskStatus.RUNNING:
                raise UnsupportedOperation("Only a running message move task can be cancelled.")
            cancel(self, move_task)

    MessageMoveTaskManager.cancel = _cancel


def _requeue_on_time() -> None:
    def start(self: QueueUpdateWorker) -> None:
        with self.mutex:
            if self.thread is None:
                self.scheduler = Scheduler()
                self.scheduler.schedule(self.do_update_all_queues, period=_REQUEUE_SECONDS, fixed_rate=False)
                self.thread = start_thread(lambda *_: self.scheduler.run(), name="sqs-queue-update-worker")

    QueueUpdateWorker.start = start
