"""What one invocation of a function looks like, from both sides."""

import json
import os
import unittest
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import boto3
from lab import Function, Journal, alive, eventually, folder, server


class Invocation(unittest.TestCase):
    def setUp(self) -> None:
        self.account = server().account()

    def test_the_answer_of_the_function_comes_back(self) -> None:
        answer, is_error, _ = Function(self.account).invoke(text="übung 🚂\u0000", number=1.5)
        self.assertFalse(is_error)
        self.assertEqual(answer["event"], {"text": "übung 🚂\u0000", "number": 1.5})

    def test_the_process_sees_the_environment_of_lambda_and_nothing_of_ours(self) -> None:
        os.environ["SWITCHYARD_SECRET_OF_THE_SHELL"] = "x"
        answer, _, _ = Function(self.account, GREETING="hello").invoke()
        seen = answer["environment"]
        self.assertEqual(seen["AWS_LAMBDA_FUNCTION_NAME"], "subject")
        self.assertEqual(seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], "256")
        self.assertEqual(seen["AWS_LAMBDA_LOG_GROUP_NAME"], "/aws/lambda/subject")
        self.assertEqual(seen["_HANDLER"], "bootstrap")
        self.assertEqual(seen["AWS_REGION"], "us-east-1")
        self.assertEqual(seen["AWS_ENDPOINT_URL"], server().endpoint)
        self.assertEqual(seen["AWS_EC2_METADATA_DISABLED"], "true")
        self.assertEqual(seen["GREETING"], "hello")
        self.assertEqual(seen["LAMBDA_TASK_ROOT"], answer["folder"])
        for name in ("HOME", "SWITCHYARD_SECRET_OF_THE_SHELL", "AWS_PROFILE"):
            self.assertNotIn(name, seen)

    def test_its_credentials_are_those_of_its_account(self) -> None:
        answer, _, _ = Function(self.account).invoke()
        seen = answer["environment"]
        identity = boto3.client(
            "sts",
            endpoint_url=seen["AWS_ENDPOINT_URL"],
            region_name=seen["AWS_REGION"],
            aws_access_key_id=seen["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=seen["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=seen["AWS_SESSION_TOKEN"],
        ).get_caller_identity()
        self.assertEqual(identity["Account"], self.account.account)

    def test_the_headers_carry_request_deadline_function_and_trace(self) -> None:
        answer, _, logs = Function(self.account, timeout=7).invoke()
        headers = answer["headers"]
        self.assertIn(headers["Lambda-Runtime-Aws-Request-Id"], logs[0])
        left_ms = int(headers["Lambda-Runtime-Deadline-Ms"]) - answer["now_ms"]
        self.assertTrue(5_000 < left_ms <= 7_000, left_ms)
        arn = f"arn:aws:lambda:us-east-1:{self.account.account}:function:subject"
        self.assertEqual(headers["Lambda-Runtime-Invoked-Function-Arn"], arn)
        self.assertRegex(headers["Lambda-Runtime-Trace-Id"], "Root=1-.*;Parent=.*;Sampled=")

    def test_a_process_serves_one_invocation_after_the_other(self) -> None:
        function = Function(self.account)
        first, second = function.invoke()[0], function.invoke()[0]
        self.assertEqual(first["pid"], second["pid"])

    def test_a_function_that_reports_an_error_goes_on_in_the_same_process(self) -> None:
        function = Function(self.account)
        before = function.invoke()[0]["pid"]
        answer, is_error, _ = function.invoke(do="error")
        self.assertTrue(is_error)
        self.assertEqual(answer, {"errorType": "Bad", "errorMessage": "it was bad"})
        self.assertEqual(function.invoke()[0]["pid"], before)

    def test_a_response_in_chunks_is_put_together(self) -> None:
        answer, is_error, _ = Function(self.account).invoke(do="chunks", pieces=["één", "zwei", "drei"])
        self.assertFalse(is_error)
        self.assertEqual(answer, "éénzweidrei")

    def test_a_response_of_more_than_six_megabytes_is_refused(self) -> None:
        function = Function(self.account)
        answer, is_error, _ = function.invoke(do="large", size=6 * 1024 * 1024 + 101)
        self.assertTrue(is_error)
        self.assertEqual(answer["errorType"], "Function.ResponseSizeTooLarge")
        answer, is_error, _ = function.invoke(do="large", size=6 * 1024 * 1024)
        self.assertFalse(is_error)

    def test_an_answer_to_an_invocation_that_is_over_is_refused(self) -> None:
        answer, _, _ = Function(self.account).invoke(do="stale")
        self.assertEqual(answer, [400, {"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"}])


class Deadline(unittest.TestCase):
    def test_a_function_that_does_not_answer_in_time_is_killed_in_lambdas_words(self) -> None:
        account = server().account()
        function = Function(account, timeout=1)
        pid = function.invoke()[0]["pid"]
        answer, is_error, logs = function.invoke(do="wait")
        self.assertTrue(is_error)
        self.assertEqual(answer["errorType"], "Sandbox.Timedout")
        self.assertRegex(answer["errorMessage"], "^RequestId: .* Error: Task timed out after 1.00 seconds$")
        self.assertTrue(any(line.endswith("Task timed out after 1.00 seconds") for line in logs), logs)
        self.assertIn("Status: timeout", logs[-1])
        self.assertFalse(alive(pid))
        self.assertNotEqual(function.invoke()[0]["pid"], pid)

    def test_what_the_killed_process_had_started_is_killed_too(self) -> None:
        function = Function(server().account(), timeout=1)
        child = function.invoke(do="child")[0]
        self.assertTrue(alive(child))
        function.invoke(do="wait")
        eventually("the child of the process is dead", lambda: not alive(child))


class Crash(unittest.TestCase):
    def setUp(self) -> None:
        self.account = server().account()
        self.function = Function(self.account)

    def test_a_killed_process_is_reported_and_replaced(self) -> None:
        before = self.function.invoke()[0]["pid"]
        answer, is_error, logs = self.function.invoke(do="kill")
        self.assertTrue(is_error)
        self.assertEqual(answer["errorType"], "Runtime.ExitError")
        self.assertTrue(answer["errorMessage"].endswith("Error: Runtime exited with error: signal: killed"), answer)
        self.assertIn("Runtime.ExitError", logs)
        self.assertNotEqual(self.function.invoke()[0]["pid"], before)

    def test_a_process_killed_between_two_invocations_costs_neither(self) -> None:
        before = self.function.invoke()[0]["pid"]
        os.kill(before, 9)
        eventually("its note is gone", lambda: not server().notes(self.account.account))
        answer, is_error, _ = self.function.invoke()
        self.assertFalse(is_error)
        self.assertNotEqual(answer["pid"], before)

    def test_an_exit_with_a_status_says_which(self) -> None:
        answer, is_error, logs = self.function.invoke(do="exit", code=3)
        self.assertTrue(is_error)
        self.assertTrue(answer["errorMessage"].endswith("Runtime exited with error: exit status 3"), answer)
        self.assertIn("about to exit", logs)

    def test_an_exit_without_an_error_is_one_all_the_same(self) -> None:
        answer, is_error, _ = self.function.invoke(do="exit", code=0)
        self.assertTrue(is_error)
        self.assertTrue(answer["errorMessage"].endswith("Runtime exited without providing a reason"), answer)


class Start(unittest.TestCase):
    def setUp(self) -> None:
        self.account = server().account()

    def test_an_init_error_is_the_answer_and_its_output_is_logged(self) -> None:
        answer, is_error, logs = Function(self.account, INIT="error").invoke()
        self.assertTrue(is_error)
        self.assertEqual(answer, {"errorType": "NoConfig", "errorMessage": "DATABASE_URL is missing"})
        self.assertIn("cannot start", logs)

    def test_a_process_that_ends_before_it_asks_for_work_is_an_error(self) -> None:
        answer, is_error, logs = Function(self.account, INIT="exit").invoke()
        self.assertTrue(is_error)
        self.assertTrue(answer["errorMessage"].endswith("Runtime exited with error: exit status 3"), answer)
        self.assertIn("giving up", logs)

    def test_a_bootstrap_that_is_no_program_is_an_error_of_the_function(self) -> None:
        answer, is_error, logs = Function(self.account, bootstrap=b"\x7fELF but not really").invoke()
        self.assertTrue(is_error)
        self.assertEqual(answer["errorType"], "Runtime.InvalidEntrypoint")
        self.assertIn("fork/exec /var/task/bootstrap: exec format error", answer["errorMessage"])
        self.assertTrue(any("exec format error" in line for line in logs), logs)

    def test_a_package_without_a_bootstrap_is_an_error_of_the_function(self) -> None:
        answer, is_error, _ = Function(self.account, bootstrap=None).invoke()
        self.assertTrue(is_error)
        self.assertEqual(answer["errorType"], "Runtime.InvalidEntrypoint")
        self.assertIn("Couldn't find valid bootstrap(s)", answer["errorMessage"])

    def test_a_changed_configuration_reaches_a_new_process(self) -> None:
        function = Function(self.account, COLOUR="red")
        before = function.invoke()[0]
        client = self.account.client("lambda")
        client.update_function_configuration(FunctionName="subject", Environment={"Variables": {"COLOUR": "green"}})
        eventually(
            "the update is through",
            lambda: client.get_function(FunctionName="subject")["Configuration"]["LastUpdateStatus"] == "Successful",
        )
        after = function.invoke()[0]
        self.assertEqual((before["environment"]["COLOUR"], after["environment"]["COLOUR"]), ("red", "green"))
        eventually("the old process is gone", lambda: not alive(before["pid"]))


class Concurrency(unittest.TestCase):
    def test_invocations_at_the_same_time_have_processes_of_their_own(self) -> None:
        account, place = server().account(), str(folder())
        function = Function(account)
        with ThreadPoolExecutor(4) as pool:
            # Each returns only when all four are running.
            calls = [pool.submit(function.invoke, do="meet", folder=place, count=4) for _ in range(4)]
            answers = [call.result() for call in calls]
        self.assertFalse(any(is_error for _, is_error, _ in answers), answers)
        pids = {answer for answer, _, _ in answers}
        self.assertEqual(len(pids), 4)
        self.assertEqual({note["pid"] for note in server().notes(account.account, "subject")}, pids)


class OtherWaysIn(unittest.TestCase):
    def test_an_event_without_a_waiting_caller_is_handled(self) -> None:
        account, journal = server().account(), Journal()
        Function(account, JOURNAL=str(journal.folder))
        account.client("lambda").invoke(FunctionName="subject", InvocationType="Event", Payload=b'{"note": "later"}')
        (entry,) = eventually("it has arrived", journal.entries)
        self.assertEqual(entry["event"], {"note": "later"})

    def test_a_function_url_answers_on_the_loopback_by_its_host_name(self) -> None:
        account = server().account()
        Function(account)
        url = account.client("lambda").create_function_url_config(FunctionName="subject", AuthType="NONE")[
            "FunctionUrl"
        ]
        host = urlsplit(url).netloc
        request = Request(f"{server().endpoint}/a/path?x=1", headers={"Host": host})
        with urlopen(request) as response:
            answer = json.load(response)
        self.assertEqual(answer["event"]["rawPath"], "/a/path")
        self.assertEqual(answer["event"]["queryStringParameters"], {"x": "1"})


class Logs(unittest.TestCase):
    def test_what_a_function_prints_stands_between_start_and_report(self) -> None:
        function = Function(server().account())
        _, _, tail = function.invoke(do="print", lines=["one", "zwei ü"])
        self.assertRegex(tail[0], r"^START RequestId: \S+ Version: \$LATEST$")
        self.assertEqual(tail[1:4], ["one", "zwei ü", "to standard error"])
        self.assertRegex(tail[4], r"^END RequestId: \S+$")
        self.assertRegex(
            tail[5],
            r"^REPORT RequestId: \S+\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 256 MB"
            r"\tMax Memory Used: \d+ MB\tInit Duration: [\d.]+ ms$",
        )
        eventually("the same lines are in CloudWatch Logs", lambda: function.logs() == tail)

    def test_only_the_first_invocation_of_a_process_has_an_init_duration(self) -> None:
        function = Function(server().account())
        self.assertIn("Init Duration", function.invoke()[2][-1])
        self.assertNotIn("Init Duration", function.invoke()[2][-1])

    def test_the_lines_of_one_invocation_are_not_in_the_next(self) -> None:
        function = Function(server().account())
        for number in range(20):
            _, _, tail = function.invoke(do="print", lines=[f"line {number}"] * 50)
            self.assertEqual(tail[1:-3], [f"line {number}"] * 50)


if __name__ == "__main__":
    unittest.main()
