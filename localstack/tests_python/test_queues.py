"""The corrections to the queues themselves."""

import json
import time
import unittest

from lab import Queue, eventually, server


class Redrive(unittest.TestCase):
    def test_a_fifo_message_comes_back_from_its_dead_letter_queue_at_once(self) -> None:
        account = server().account()
        sqs = account.client("sqs")
        dead = Queue(account, "dead.fifo", FifoQueue="true")
        policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1})
        work = Queue(account, "work.fifo", FifoQueue="true", VisibilityTimeout="0", RedrivePolicy=policy)
        work.send("x", MessageGroupId="g", MessageDeduplicationId="the-one")
        self.assertEqual(len(work.receive()), 1)
        eventually("it is dead", lambda: not work.receive() and dead.attribute("ApproximateNumberOfMessages") == "1")
        sqs.start_message_move_task(SourceArn=dead.arn)
        eventually("it is back", lambda: work.attribute("ApproximateNumberOfMessages") == "1")
        self.assertEqual(dead.attribute("ApproximateNumberOfMessages"), "0")

    def test_a_move_that_is_over_cannot_be_cancelled_and_is_not_in_the_way(self) -> None:
        account = server().account()
        sqs = account.client("sqs")
        dead = Queue(account, "dead")
        policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1})
        work = Queue(account, "work", RedrivePolicy=policy)
        move = {"SourceArn": dead.arn, "DestinationArn": work.arn}

        def over() -> bool:
            return sqs.list_message_move_tasks(SourceArn=dead.arn)["Results"][0]["Status"] == "COMPLETED"

        handle = sqs.start_message_move_task(**move)["TaskHandle"]
        eventually("it is over", over)
        with self.assertRaises(sqs.exceptions.UnsupportedOperation):
            sqs.cancel_message_move_task(TaskHandle=handle)
        self.assertTrue(over())
        sqs.start_message_move_task(**move)
        eventually("the next one is over", over)

    def test_a_duplicate_is_still_dropped(self) -> None:
        work = Queue(server().account(), "work.fifo", FifoQueue="true")
        for _ in range(2):
            work.send("x", MessageGroupId="g", MessageDeduplicationId="the-one")
        self.assertEqual(work.attribute("ApproximateNumberOfMessages"), "1")


class Groups(unittest.TestCase):
    def setUp(self) -> None:
        self.account = server().account()
        self.sqs = self.account.client("sqs")
        self.queue = Queue(self.account, "work.fifo", FifoQueue="true", VisibilityTimeout="30")

    def send(self, group: str, *bodies: str) -> None:
        for body in bodies:
            self.queue.send(body, MessageGroupId=group, MessageDeduplicationId=body)

    def hold(self, message: dict[str, str], seconds: int) -> None:
        self.sqs.change_message_visibility(
            QueueUrl=self.queue.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds
        )

    def received(self) -> dict[str, dict[str, str]]:
        return {message["Body"]: message for message in self.queue.receive()}

    def test_a_message_that_is_held_back_holds_back_its_group(self) -> None:
        self.send("a", "a1", "a2", "a3")
        held = self.received()
        self.assertEqual(list(held), ["a1", "a2", "a3"])
        self.hold(held["a2"], 0)
        self.hold(held["a3"], 0)
        self.assertEqual(self.received(), {}, "a1 is in flight")
        self.hold(held["a1"], 0)
        self.assertEqual(list(self.received()), ["a1", "a2", "a3"])

    def test_a_message_that_is_held_back_holds_back_no_other_group(self) -> None:
        self.send("a", "a1")
        (held,) = self.received().values()
        self.send("b", "b1")
        (other,) = self.received().values()
        self.hold(other, 1)
        self.assertEqual(list(eventually("b1 is back", self.received)), ["b1"])
        self.hold(held, 0)
        self.assertEqual(list(self.received()), ["a1"])


class Timing(unittest.TestCase):
    def test_a_hidden_message_is_back_on_time_and_not_before(self) -> None:
        account = server().account()
        queue = Queue(account, "work", VisibilityTimeout="30")
        queue.send("x")
        (message,) = queue.receive()
        sqs = account.client("sqs")
        began = time.monotonic()
        sqs.change_message_visibility(QueueUrl=queue.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=2)
        eventually("it is back", queue.receive)
        self.assertGreaterEqual(time.monotonic() - began, 1.95)
        self.assertLess(time.monotonic() - began, 3.0)


if __name__ == "__main__":
    unittest.main()
