"""How messages come from a queue to a function."""

import json
import os
import unittest
from typing import Any

from lab import Function, Journal, Queue, eventually, folder, server

# Soon, but not before a process has started on a busy machine: what is handled twice is not what these tests are about.
RETRIED_SOON = {"VisibilityTimeout": "6"}


class Mapped:
    """A queue, a function that writes down what it gets, and the mapping between them."""

    def __init__(
        self, *, mapping: dict[str, Any] | None = None, queue: dict[str, str] | None = None, **environment: str
    ):
        self.account = server().account()
        self.journal = Journal()
        self.function = Function(self.account, JOURNAL=str(self.journal.folder), **environment)
        attributes = {"VisibilityTimeout": "60", **(queue or {})}
        name = "work.fifo" if "FifoQueue" in attributes else "work"
        self.queue = Queue(self.account, name, **attributes)
        self.client = self.account.client("lambda")
        self.id = self.client.create_event_source_mapping(
            EventSourceArn=self.queue.arn,
            FunctionName="subject",
            FunctionResponseTypes=["ReportBatchItemFailures"],
            **{"BatchSize": 10, **(mapping or {})},
        )["UUID"]

    def state(self) -> str:
        return self.client.get_event_source_mapping(UUID=self.id)["State"]

    def update(self, **change: Any) -> None:
        self.client.update_event_source_mapping(UUID=self.id, **change)

    def bodies(self) -> list[str]:
        return [record["body"] for record in self.journal.records()]

    def wait_for(self, *bodies: str) -> None:
        """Waits until as many have arrived, and checks that it is these."""
        eventually(f"{len(bodies)} bodies have arrived", lambda: len(self.bodies()) >= len(bodies))
        unittest.TestCase().assertCountEqual(self.bodies(), bodies)


class Bodies(unittest.TestCase):
    def test_a_body_arrives_as_it_was_sent(self) -> None:
        bodies = [
            '{"a": 1.0,  "b":"é", "b": "\\u00e9"}',
            '{"big": 18446744073709551617, "huge": 1e400, "tiny": -0.0}',
            '{"nul": "\\u0000", "half": "\\ud800"}',
            " [1 , 2]\n",
            "17",
            '"text"',
            "null",
            "not JSON: { 🚂",
            "NaN",
        ]
        mapped = Mapped()
        mapped.queue.send_all(bodies)
        mapped.wait_for(*bodies)
        eventually("the queue is empty", mapped.queue.is_empty)

    def test_a_record_says_where_it_comes_from_and_how_often_it_was_tried(self) -> None:
        mapped = Mapped()
        sent = mapped.queue.send(
            "x", MessageAttributes={"event_type": {"DataType": "String", "StringValue": "feedback.created"}}
        )
        (record,) = eventually("it has arrived", mapped.journal.records)
        self.assertEqual(record["messageId"], sent)
        self.assertEqual(record["eventSource"], "aws:sqs")
        self.assertEqual(record["eventSourceARN"], mapped.queue.arn)
        self.assertEqual(record["awsRegion"], "us-east-1")
        self.assertEqual(record["attributes"]["ApproximateReceiveCount"], "1")
        self.assertEqual(record["messageAttributes"]["event_type"]["stringValue"], "feedback.created")

    def test_raw_delivery_from_a_topic_keeps_the_body_too(self) -> None:
        mapped = Mapped()
        topics = mapped.account.client("sns")
        topic = topics.create_topic(Name="events")["TopicArn"]
        topics.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=mapped.queue.arn, Attributes={"RawMessageDelivery": "true"}
        )
        body = '{"id":  "1", "payload": {"x": 1.10, "y": "\\u0000é"}}'
        topics.publish(TopicArn=topic, Message=body)
        mapped.wait_for(body)

    def test_filters_look_into_the_body_without_changing_it(self) -> None:
        pattern = json.dumps({"body": {"kind": ["wanted"]}})
        mapped = Mapped(mapping={"FilterCriteria": {"Filters": [{"Pattern": pattern}]}})
        wanted = '{"kind":  "wanted", "n": 1.0}'
        mapped.queue.send_all(['{"kind": "other"}', "plain", wanted])
        eventually("the queue is empty", mapped.queue.is_empty)
        self.assertEqual(mapped.bodies(), [wanted])


class Batches(unittest.TestCase):
    def test_only_the_records_that_failed_come_again(self) -> None:
        mapped = Mapped(queue=RETRIED_SOON, FAIL="bad")
        dead = Queue(mapped.account, "dead")
        mapped.account.client("sqs").set_queue_attributes(
            QueueUrl=mapped.queue.url,
            Attributes={"RedrivePolicy": json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 2})},
        )
        mapped.queue.send_all([f"good {number}" for number in range(8)] + ["bad 1", "bad 2"])
        eventually(
            "the bad ones are in the dead-letter queue", lambda: dead.attribute("ApproximateNumberOfMessages") == "2"
        )
        counts = {body: mapped.bodies().count(body) for body in mapped.bodies()}
        self.assertEqual({count for body, count in counts.items() if body.startswith("good")}, {1})
        self.assertEqual({count for body, count in counts.items() if body.startswith("bad")}, {2})
        self.assertEqual(len(counts), 10)

    def test_messages_that_are_sent_together_travel_together(self) -> None:
        mapped = Mapped(mapping={"Enabled": False})
        mapped.queue.send_all([str(number) for number in range(10)])
        mapped.update(Enabled=True)
        eventually("all have arrived", lambda: len(mapped.bodies()) == 10)
        self.assertEqual(len(mapped.journal.entries()), 1)

    def test_a_batching_window_waits_for_more(self) -> None:
        mapped = Mapped(mapping={"MaximumBatchingWindowInSeconds": 20, "BatchSize": 3})
        for number in range(3):
            mapped.queue.send(str(number))
        # Long before the window ends, since the batch is full.
        eventually("all have arrived", lambda: len(mapped.bodies()) == 3, seconds=10)
        self.assertEqual(len(mapped.journal.entries()), 1)

    def test_an_empty_answer_means_that_all_went_well(self) -> None:
        for answer in ("", "null", "{}", '{"batchItemFailures": []}', '{"batchItemFailures": null}'):
            with self.subTest(answer=answer):
                mapped = Mapped(ANSWER=answer)
                mapped.queue.send("x")
                eventually("the queue is empty", lambda mapped=mapped: mapped.bodies() and mapped.queue.is_empty())
                self.assertEqual(mapped.bodies(), ["x"])

    def test_an_unknown_or_empty_identifier_fails_the_whole_batch(self) -> None:
        for identifier in ("no-such-id", ""):
            with self.subTest(identifier=identifier):
                answer = json.dumps({"batchItemFailures": [{"itemIdentifier": identifier}]})
                mapped = Mapped(queue=RETRIED_SOON, ANSWER=answer)
                mapped.queue.send("x")
                eventually("it comes again", lambda mapped=mapped: len(mapped.bodies()) >= 2)

    def test_a_batch_during_which_the_process_died_comes_again(self) -> None:
        gate = folder() / "open"
        mapped = Mapped(queue=RETRIED_SOON, GATE=str(gate))
        mapped.queue.send("x")
        (entry,) = eventually("it has arrived", mapped.journal.entries)
        os.kill(entry["pid"], 9)
        gate.touch()
        eventually("it has arrived again", lambda: len(mapped.bodies()) == 2)
        eventually("the queue is empty", mapped.queue.is_empty)

    def test_several_batches_are_handled_at_the_same_time(self) -> None:
        mapped = Mapped(mapping={"BatchSize": 1}, MEET="3")
        mapped.queue.send_all(["1", "2", "3"])
        # Each answers only when three are running.
        eventually("the queue is empty", lambda: len(mapped.bodies()) == 3 and mapped.queue.is_empty())
        self.assertEqual(len({entry["pid"] for entry in mapped.journal.entries()}), 3)

    def test_no_more_batches_at_a_time_than_the_mapping_allows(self) -> None:
        gate = folder() / "open"
        mapped = Mapped(
            mapping={"BatchSize": 1, "ScalingConfig": {"MaximumConcurrency": 2}},
            GATE=str(gate),
        )
        mapped.queue.send_all([str(number) for number in range(6)])
        eventually("two are being handled", lambda: len(mapped.journal.entries()) == 2)
        self.assertEqual(mapped.queue.attribute("ApproximateNumberOfMessages"), "4")
        gate.touch()
        eventually("all were handled", lambda: len(mapped.journal.entries()) == 6 and mapped.queue.is_empty())
        self.assertEqual(len({entry["pid"] for entry in mapped.journal.entries()}), 2)


class Switching(unittest.TestCase):
    def test_a_disabled_mapping_takes_nothing_and_an_enabled_one_goes_on(self) -> None:
        mapped = Mapped()
        mapped.queue.send("before")
        mapped.wait_for("before")
        mapped.update(Enabled=False)
        mapped.queue.send("meanwhile")
        eventually("it is disabled", lambda: mapped.state() == "Disabled")
        # A message for another mapping, sent later and handled, shows that this one had its chance.
        other = Mapped()
        other.queue.send("other")
        eventually("the other has its message", other.bodies)
        self.assertEqual(mapped.bodies(), ["before"])
        self.assertEqual(mapped.queue.attribute("ApproximateNumberOfMessages"), "1")
        mapped.update(Enabled=True)
        mapped.wait_for("before", "meanwhile")

    def test_the_state_after_an_update_is_the_state(self) -> None:
        mapped = Mapped()
        mapped.update(BatchSize=5)
        eventually("it is enabled", lambda: mapped.state() == "Enabled")
        mapped.queue.send("x")
        eventually("it works", mapped.bodies)
        listed = mapped.client.list_event_source_mappings(FunctionName="subject")["EventSourceMappings"]
        self.assertEqual([each["State"] for each in listed], ["Enabled"])

    def test_a_deleted_mapping_takes_nothing_and_is_gone(self) -> None:
        mapped = Mapped()
        mapped.client.delete_event_source_mapping(UUID=mapped.id)
        eventually("it is gone", lambda: not mapped.client.list_event_source_mappings()["EventSourceMappings"])
        mapped.queue.send("x")
        self.assertEqual(len(mapped.queue.receive()), 1)
        self.assertEqual(mapped.bodies(), [])


class Fifo(unittest.TestCase):
    def test_a_group_stays_in_order(self) -> None:
        mapped = Mapped(
            queue={"FifoQueue": "true", "ContentBasedDeduplication": "true"},
            mapping={"BatchSize": 2},
        )
        for number in range(12):
            mapped.queue.send(f"{number % 2}:{number:02}", MessageGroupId=f"group-{number % 2}")
        eventually("all were handled", lambda: len(mapped.bodies()) == 12 and mapped.queue.is_empty())
        for group in "01":
            arrived = [body for body in mapped.bodies() if body.startswith(group)]
            self.assertEqual(arrived, sorted(arrived))


if __name__ == "__main__":
    unittest.main()
