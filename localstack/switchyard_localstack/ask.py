"""What the dev runner and the tests ask a running LocalStack:
``python -m switchyard_localstack.ask invoke | call | off-schedule | logs | queues``.

Answers are lines of JSON on standard output. A question that cannot be answered is one line on standard error and exit code 1.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from .account import Account

# Between two looks at the logs that are followed.
_PAUSE_SECONDS = 0.5


class Unanswerable(Exception):
    """Why there is no answer, in one line for a person."""


def invoke(account: Account, function: str) -> None:
    """Invokes a function asynchronously, with an empty object, and does not wait for it."""
    account.client("lambda").invoke(FunctionName=function, InvocationType="Event", Payload=b"{}")
    _print({"invoked": function})


def call(account: Account, stack: str, function: str, event: str) -> None:
    """Invokes a function of a stack with an event, waits, and prints its answer."""
    answer = account.client("lambda").invoke(FunctionName=_one(account, stack, function), Payload=event.encode())
    said = json.load(answer["Payload"])
    if "FunctionError" in answer:
        raise Unanswerable(f"{function} failed: {said.get('errorMessage', said)}")
    _print(said)


def off_schedule(account: Account, stack: str, function: str) -> None:
    """Takes a function of a stack off the rules that invoke it. The targets go, since LocalStack goes on with a rule that is disabled."""
    configured = account.client("lambda").get_function_configuration(FunctionName=_one(account, stack, function))
    client = account.client("events")
    rules = client.list_rule_names_by_target(TargetArn=configured["FunctionArn"])["RuleNames"]
    if not rules:
        raise Unanswerable(f"no schedule invokes {function}")
    for rule in rules:
        targets = client.list_targets_by_rule(Rule=rule)["Targets"]
        client.remove_targets(Rule=rule, Ids=[t["Id"] for t in targets if t["Arn"] == configured["FunctionArn"]])
    _print({"off": rules})


def functions(account: Account, stack: str) -> dict[str, list[str]]:
    """The functions of a stack by the name a person uses for them, and their log groups: the configured one, which AWS
    uses, and the default one, which LocalStack uses whatever is configured."""
    client = account.client("lambda")
    groups = {}
    for name, function in sorted(_physical(account, stack).items()):
        configured = client.get_function_configuration(FunctionName=function).get("LoggingConfig", {}).get("LogGroup")
        default = f"/aws/lambda/{function}"
        groups[name] = [default] if configured in (None, default) else [configured, default]
    return groups


def logs(account: Account, stack: str, only: str | None, since_ms: int, follow: bool) -> None:
    """Prints what functions have logged, oldest first, and goes on as long as `follow` says."""
    known = functions(account, stack)
    chosen = {name: groups for name, groups in known.items() if only in (None, name)}
    if not chosen:
        raise Unanswerable(f"there is no function {only!r}; there are {', '.join(known) or 'none'}")
    client = account.client("logs")
    since = dict.fromkeys(chosen, since_ms)
    seen: dict[str, set[str]] = {name: set() for name in chosen}
    while True:
        lines = [
            (event["timestamp"], name, event)
            for name, groups in chosen.items()
            for group in groups
            for event in _events(client, group, since[name])
            if event["eventId"] not in seen[name]
        ]
        # Sorting is stable, so that lines of one function and millisecond stay as they were written.
        for at, name, event in sorted(lines, key=lambda line: line[0]):
            _print({"at": at, "function": name, "message": event["message"].rstrip("\n")})
            # A later look begins at the newest millisecond again, since more lines of it may come.
            if at > since[name]:
                since[name] = at
                seen[name].clear()
            seen[name].add(event["eventId"])
        if not follow:
            return
        time.sleep(_PAUSE_SECONDS)


def queues(account: Account) -> None:
    """Prints each queue with how many messages it holds."""
    client = account.client("sqs")
    for url in client.list_queues().get("QueueUrls", []):
        counts = client.get_queue_attributes(
            QueueUrl=url,
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
                "ApproximateNumberOfMessagesDelayed",
            ],
        )["Attributes"]
        _print(
            {
                "name": url.rsplit("/", 1)[-1],
                "waiting": int(counts["ApproximateNumberOfMessages"]),
                "in_flight": int(counts["ApproximateNumberOfMessagesNotVisible"]),
                "delayed": int(counts["ApproximateNumberOfMessagesDelayed"]),
            }
        )


def _one(account: Account, stack: str, function: str) -> str:
    known = _physical(account, stack)
    if function not in known:
        raise Unanswerable(f"there is no function {function!r}; there are {', '.join(known) or 'none'}")
    return known[function]


def _physical(account: Account, stack: str) -> dict[str, str]:
    """The functions of a stack by the name a person uses for them (`shim` for `ShimFunction`)."""
    pages = account.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
    return {
        _spoken(resource["LogicalResourceId"]): resource["PhysicalResourceId"]
        for page in pages
        for resource in page["StackResourceSummaries"]
        if resource["ResourceType"] == "AWS::Lambda::Function"
    }


def _spoken(logical: str) -> str:
    """`SpecWriterFunction` is called spec-writer."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", logical.removesuffix("Function")).lower()


def _events(client: Any, group: str, since_ms: int) -> Iterator[dict[str, Any]]:
    pages = client.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=since_ms)
    try:
        for page in pages:
            yield from page["events"]
    except client.exceptions.ResourceNotFoundException:
        return  # it has not run yet


def _print(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="switchyard_localstack.ask", description=__doc__)
    world = argparse.ArgumentParser(add_help=False)
    world.add_argument("--endpoint", required=True, help="http://127.0.0.1:PORT")
    world.add_argument("--account", required=True)
    world.add_argument("--region", default="us-east-1")
    questions = parser.add_subparsers(dest="question", required=True)
    question = questions.add_parser("invoke", parents=[world], help="invoke a function and do not wait")
    question.add_argument("--function", required=True)
    question = questions.add_parser("call", parents=[world], help="invoke a function with the event on standard input")
    question.add_argument("--stack", required=True)
    question.add_argument("--function", required=True, help="such as shim")
    question = questions.add_parser("off-schedule", parents=[world], help="let nothing but a call invoke a function")
    question.add_argument("--stack", required=True)
    question.add_argument("--function", required=True, help="such as steward")
    question = questions.add_parser("logs", parents=[world], help="what functions have logged")
    question.add_argument("--stack", required=True)
    question.add_argument("--function", help="one of them, such as shim")
    question.add_argument("--since", type=int, default=0, help="milliseconds since 1970")
    question.add_argument("--follow", action="store_true")
    questions.add_parser("queues", parents=[world], help="how many messages each queue holds")
    return parser


def main() -> int:
    """Answers one question."""
    asked = _parser().parse_args()
    account = Account(asked.endpoint, asked.account, asked.region)
    try:
        if asked.question == "invoke":
            invoke(account, asked.function)
        elif asked.question == "call":
            call(account, asked.stack, asked.function, sys.stdin.read())
        elif asked.question == "off-schedule":
            off_schedule(account, asked.stack, asked.function)
        elif asked.question == "logs":
            logs(account, asked.stack, asked.function, asked.since, asked.follow)
        else:
            queues(account)
    except (ClientError, BotoCoreError, Unanswerable) as e:
        print(e, file=sys.stderr)
        return 1
    except (BrokenPipeError, KeyboardInterrupt):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
