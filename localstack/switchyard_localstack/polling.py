"""How an event source mapping takes messages from its queue: at once, several batches at a time, and cheaply.

LocalStack asks the queue over HTTP, one batch after the other, and sleeps for a second after an empty answer. The
queue is an object of the same process, though, so here a mapping waits on the queue itself: a message wakes it in
the same millisecond, and a queue in which nothing happens costs a few wake-ups a second. Messages are then received
and deleted by the ordinary API, which counts receives, hides messages and moves them to a dead-letter queue.
"""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakValueDictionary

from localstack.services.lambda_.event_source_mapping import esm_worker_factory
from localstack.services.lambda_.event_source_mapping.esm_worker import EsmWorker
from localstack.services.lambda_.event_source_mapping.event_processor import PartialBatchFailureError
from localstack.services.lambda_.event_source_mapping.pollers import sqs_poller
from localstack.services.lambda_.event_source_mapping.pollers.poller import parse_batch_item_failures
from localstack.services.sqs.models import FifoQueue, SqsQueue, sqs_stores
from localstack.utils.aws.arns import parse_arn

from . import bodies

LOG = logging.getLogger(__name__)

# AWS polls a queue with five batches at a time to begin with, and scales from there. This machine has few cores.
_BATCHES_AT_A_TIME = 5

# How long a mapping that was disabled or deleted may go unnoticed by a waiting poller.
_GLANCE_SECONDS = 0.25

# The least time a batch is gathered for. A publisher sends ten messages one by one within a millisecond or two:
# without a pause the first one would always travel alone.
_GATHER_SECONDS = 0.005

# While all batches are being handled, or the queue does not exist (yet, or any more).
_BUSY_SECONDS = 0.1


class QueuePoller(sqs_poller.SqsPoller):
    """The poller of one mapping. `poll_events` is called in a loop by the mapping's own thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stopping = threading.Event()
        self._slots = threading.Semaphore(_BATCHES_AT_A_TIME)
        self._workers: ThreadPoolExecutor | None = None

    def limit(self, batches: int) -> None:
        """Handles at most so many batches at a time. Called before the first poll."""
        self._slots = threading.Semaphore(max(1, min(batches, _BATCHES_AT_A_TIME)))

    def poll_events(self) -> None:
        queue = self._queue()
        if queue is None:
            self.stopping.wait(_BUSY_SECONDS)
            return
        # A free slot first: a message must not sit invisible, its timeout running, behind batches in progress.
        if not self._slots.acquire(timeout=_BUSY_SECONDS):
            return
        handed_over = False
        try:
            # The order matters: looked, then asked whether to stop, so that a disabled mapping takes nothing more.
            if not self._wait_for_batch(queue) or self.stopping.is_set():
                return
            messages = self._receive()
            if not messages:
                return
            if self._workers is None:
                self._workers = ThreadPoolExecutor(_BATCHES_AT_A_TIME, thread_name_prefix=f"mapping-{queue.name}")
            self._workers.submit(self._handle, messages)
            handed_over = True
        finally:
            if not handed_over:
                self._slots.release()

    def close(self) -> None:
        if self._workers is not None:
            self._workers.shutdown(wait=False)

    def handle_messages(self, messages: list[dict[str, Any]]) -> None:
        """Invokes the function with a batch and deletes what it has taken."""
        events = sqs_poller.transform_into_events(messages)
        accepted = bodies.matching(self.filter_patterns, events)
        ids = {event["messageId"] for event in accepted}
        self.delete_messages(messages, {event["messageId"] for event in events} - ids)
        if not accepted:
            return
        try:
            self.processor.process_events_batch(self.add_source_metadata(accepted))
            failed: set[str] = set()
        except PartialBatchFailureError as e:
            try:
                failed = set(parse_batch_item_failures(e.partial_failure_payload, ids))
            except (KeyError, ValueError) as malformed:
                # An identifier that is empty or not in the batch: Lambda takes the whole batch as failed.
                LOG.warning("The answer for %s fails its whole batch: %s", self.source_arn, malformed)
                failed = ids
        self.delete_messages(messages, ids - failed)

    def _handle(self, messages: list[dict[str, Any]]) -> None:
        try:
            self.handle_messages(messages)
        except Exception as e:
            # The function failed or was throttled: the messages come back when their visibility timeout ends.
            LOG.info("A batch of %d from %s failed: %s", len(messages), self.source_arn, e)
        finally:
            self._slots.release()

    def _receive(self) -> list[dict[str, Any]]:
        response = self.source_client.receive_message(
            QueueUrl=self.queue_url,
            MaxNumberOfMessages=min(self.batch_size, sqs_poller.DEFAULT_MAX_RECEIVE_COUNT),
            WaitTimeSeconds=0,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
            # LocalStack's own parameter: a mapping's batch may be larger than one call of the API can bring.
            sqs_override_max_message_count=self.batch_size,
        )
        return response.get("Messages", [])

    def _wait_for_batch(self, queue: SqsQueue) -> bool:
        """True when there is something to receive: a full batch, or less after the mapping's batching window."""
        available = queue.message_group_queue if isinstance(queue, FifoQueue) else queue.visible
        with available.not_empty:
            if not available.queue:
                available.not_empty.wait(_GLANCE_SECONDS)
            if not available.queue:
                return False
            deadline = time.monotonic() + max(self.maximum_batching_window, _GATHER_SECONDS)
            while len(available.queue) < self.batch_size and not self.stopping.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                available.not_empty.wait(min(left, _GLANCE_SECONDS))
            return bool(available.queue)

    def _queue(self) -> SqsQueue | None:
        arn = parse_arn(self.source_arn)
        return sqs_stores[arn["account"]][arn["region"]].queues.get(arn["resource"])


def install() -> None:
    """Gives every SQS mapping that is created from now on this poller."""
    esm_worker_factory.SqsPoller = QueuePoller
    newest: WeakValueDictionary[str, EsmWorker] = WeakValueDictionary()
    make_worker = esm_worker_factory.EsmWorkerFactory.get_esm_worker
    write_state = EsmWorker.update_esm_state_in_store

    def get_esm_worker(self: esm_worker_factory.EsmWorkerFactory) -> EsmWorker:
        worker = make_worker(self)
        if isinstance(worker.poller, QueuePoller):
            worker.poller.stopping = worker._shutdown_event
            scaling = self.esm_config.get("ScalingConfig") or {}
            worker.poller.limit(scaling.get("MaximumConcurrency") or _BATCHES_AT_A_TIME)
            newest[worker.uuid] = worker
        return worker

    def update_esm_state_in_store(self: EsmWorker, new_state: str) -> None:
        # An update replaces the worker. The old one ends later, and must not write "Disabled" over its successor.
        if newest.get(self.uuid, self) is self:
            write_state(self, new_state)

    esm_worker_factory.EsmWorkerFactory.get_esm_worker = get_esm_worker
    EsmWorker.update_esm_state_in_store = update_esm_state_in_store
