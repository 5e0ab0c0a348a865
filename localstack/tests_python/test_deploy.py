"""Deploying a SAM template, by the command as a user has it."""

import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

from lab import BOOTSTRAP, PACKAGES, Function, eventually, folder, server

TEMPLATE = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  DatabaseSecret: {Type: String}
  Limit: {Type: Number, Default: 7}
Resources:
  Topic:
    Type: AWS::SNS::Topic
  Queue:
    Type: AWS::SQS::Queue
    Properties: {VisibilityTimeout: 60}
  Subject:
    Type: AWS::Serverless::Function
    Metadata: {BuildMethod: rust-cargolambda, BuildProperties: {Binary: subject}}
    Properties:
      Runtime: provided.al2023
      Handler: bootstrap
      Architectures: [arm64]
      CodeUri: target/lambda/subject/
      Timeout: 10
      ReservedConcurrentExecutions: !Ref Limit
      EventInvokeConfig: {MaximumRetryAttempts: 0}
      Environment:
        Variables:
          DATABASE_URL: !Sub "{{resolve:secretsmanager:${DatabaseSecret}:SecretString:url}}"
          TOPIC: !Ref Topic
          COLOUR: red
      Events:
        Work:
          Type: SQS
          Properties:
            Queue: !GetAtt Queue.Arn
            BatchSize: 10
            FunctionResponseTypes: [ReportBatchItemFailures]
            ScalingConfig: {MaximumConcurrency: 2}
Outputs:
  SubjectName: {Value: !Ref Subject}
  QueueUrl: {Value: !Ref Queue}
"""


class Deploying(unittest.TestCase):
    def setUp(self) -> None:
        self.account = server().account()
        self.folder = folder()
        self.template = self.folder / "template.yaml"
        self.template.write_text(TEMPLATE)
        self.bootstrap = self.folder / "artifacts" / "subject" / "bootstrap"
        self.bootstrap.parent.mkdir(parents=True)
        self.bootstrap.write_text(BOOTSTRAP)

    def run_command(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable, "-m", "switchyard_localstack", command,
                "--endpoint", self.account.endpoint, "--account", self.account.account, "--stack", "it", *arguments,
            ],
            capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(PACKAGES)},
        )  # fmt: skip

    def deploy(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.run_command(
            "deploy", "--template", str(self.template), "--artifacts", str(self.folder / "artifacts"),
            "--parameter", "DatabaseSecret=it/database", "--secret", 'it/database={"url": "postgres://a=b@c/d"}', *more,
        )  # fmt: skip

    def outputs(self, *more: str) -> dict[str, str]:
        done = self.deploy(*more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def subject(self, outputs: dict[str, str]) -> Function:
        return Function(self.account, outputs["SubjectName"], deployed=True)

    def test_the_stack_is_there_and_its_outputs_are_printed(self) -> None:
        outputs = self.outputs()
        function = self.subject(outputs)
        environment = function.invoke()[0]["environment"]
        self.assertEqual(environment["DATABASE_URL"], "postgres://a=b@c/d")
        self.assertIn(f":{self.account.account}:", environment["TOPIC"])
        lambdas = self.account.client("lambda")
        reserved = lambdas.get_function_concurrency(FunctionName=function.name)["ReservedConcurrentExecutions"]
        self.assertEqual(reserved, 7)
        retries = lambdas.get_function_event_invoke_config(FunctionName=function.name)["MaximumRetryAttempts"]
        self.assertEqual(retries, 0)
        self.account.client("sqs").send_message(QueueUrl=outputs["QueueUrl"], MessageBody="x")
        eventually("the mapping works", lambda: len([line for line in function.logs() if "START" in line]) == 2)

    def test_progress_is_json_line_by_line(self) -> None:
        done = self.deploy()
        lines = [json.loads(line) for line in done.stderr.splitlines()]
        self.assertEqual([line["step"] for line in lines[:2]], ["secrets", "code"])
        self.assertEqual(lines[-1]["step"], "stack")
        self.assertEqual(lines[-1]["done"], lines[-1]["of"])

    def test_a_second_deployment_updates_what_changed(self) -> None:
        before = self.outputs()
        self.assertEqual(self.subject(before).invoke()[0]["environment"]["COLOUR"], "red")
        self.template.write_text(TEMPLATE.replace("COLOUR: red", "COLOUR: green"))
        self.bootstrap.write_text(BOOTSTRAP.replace('"folder": os.getcwd()', '"version": 2'))
        after = self.outputs("--parameter", "Limit=3")
        self.assertEqual(after["SubjectName"], before["SubjectName"])
        answer = self.subject(after).invoke()[0]
        self.assertEqual((answer["environment"]["COLOUR"], answer["version"]), ("green", 2))

    def test_a_deployment_that_changes_nothing_changes_nothing(self) -> None:
        outputs = self.outputs()
        self.assertEqual(self.outputs(), outputs)
        self.assertFalse(self.subject(outputs).invoke()[1])

    def test_a_removed_stack_takes_its_processes_with_it(self) -> None:
        self.subject(self.outputs()).invoke()
        self.assertEqual(len(server().notes(self.account.account)), 1)
        done = self.run_command("undeploy")
        self.assertEqual(done.returncode, 0, done.stderr)
        eventually("the process is gone", lambda: not server().notes(self.account.account))
        self.assertEqual(self.account.client("lambda").list_functions()["Functions"], [])
        self.assertEqual(self.run_command("undeploy").returncode, 0)

    def test_a_failure_names_the_resource_that_failed_first(self) -> None:
        broken = '  Broken:\n    Type: AWS::SQS::Queue\n    Properties: {QueueName: "not a name!"}\nOutputs:'
        self.template.write_text(TEMPLATE.replace("Outputs:", broken))
        done = self.deploy()
        self.assertEqual(done.returncode, 1)
        last = done.stderr.splitlines()[-1]
        self.assertTrue(last.startswith("Broken (AWS::SQS::Queue) failed: "), last)
        self.assertEqual(done.stdout, "")

    def test_a_stack_that_lacks_a_resource_is_never_complete(self) -> None:
        done = self.deploy("--secret", "it/database=not JSON")
        self.assertEqual(done.returncode, 1)
        last = done.stderr.splitlines()[-1]
        self.assertTrue(last.startswith("Subject (AWS::Lambda::Function) failed: "), last)
        self.assertEqual(done.stdout, "")

    def test_a_missing_bootstrap_is_named(self) -> None:
        self.bootstrap.unlink()
        done = self.deploy()
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"no bootstrap for subject: {self.bootstrap} does not exist", done.stderr)

    def test_nobody_there_is_one_clear_line(self) -> None:
        self.account.endpoint = "http://127.0.0.1:1"
        done = self.deploy()
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertIn("LocalStack at http://127.0.0.1:1", done.stderr)

    def test_the_same_program_makes_the_same_package(self) -> None:
        from switchyard_localstack.artifacts import pack

        again: Path = self.folder / "again" / "subject"
        again.mkdir(parents=True)
        (again / "bootstrap").write_text(BOOTSTRAP)
        first = pack(self.bootstrap.parent.parent, "subject")
        second = pack(again.parent, "subject")
        self.assertEqual(first.sha256, second.sha256)
        self.assertEqual(first.path.read_bytes(), second.path.read_bytes())


if __name__ == "__main__":
    unittest.main()
