"""``deploy`` and ``undeploy``: what ``sam deploy`` does, in one or two seconds instead of thirty."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from . import artifacts, template
from .account import Account

# A template that is longer must be uploaded.
_MAX_INLINE_BYTES = 51_200

_ARTIFACTS_ACCOUNT = "000000000000"

_POLL_SECONDS = 0.05
_REPORT_SECONDS = 0.5
_DEADLINE_SECONDS = 300.0


class DeployError(Exception):
    """What went wrong, in one message for a person."""


def deploy(
    account: Account, stack: str, path: Path, folder: Path, parameters: dict[str, str], secrets: dict[str, str]
) -> None:
    """Creates or updates `stack` and prints its outputs, one JSON object, to standard output.

    Raises DeployError with the reason of the resource that failed first.
    """
    try:
        content = template.read(path)
        _put_secrets(account, secrets)
        content = template.with_code(content, _upload(account, content, folder))
        outputs = _bring_about(account, stack, content, parameters)
        _reserve_concurrency(account, stack, template.reserved_concurrency(content, parameters))
    except (template.TemplateError, artifacts.ArtifactError) as e:
        raise DeployError(str(e)) from e
    except (ClientError, BotoCoreError) as e:
        raise DeployError(f"LocalStack at {account.endpoint}: {e}") from e
    print(json.dumps(outputs), flush=True)


def undeploy(account: Account, stack: str) -> None:
    """Deletes `stack` and waits until it is gone; a stack that is not there is gone already.

    Raises DeployError when something of it cannot be deleted.
    """
    formation = account.client("cloudformation")
    try:
        description = _describe(formation, stack)
        if description is None:
            return
        formation.delete_stack(StackName=stack)
        # By id, since a deleted stack is not found by its name.
        _wait(formation, description["StackId"], "delete")
    except (ClientError, BotoCoreError) as e:
        raise DeployError(f"LocalStack at {account.endpoint}: {e}") from e


def _put_secrets(account: Account, secrets: dict[str, str]) -> None:
    if not secrets:
        return
    manager = account.client("secretsmanager")
    for done, (name, value) in enumerate(secrets.items(), 1):
        try:
            manager.create_secret(Name=name, SecretString=value)
        except manager.exceptions.ResourceExistsException:
            manager.put_secret_value(SecretId=name, SecretString=value)
        _progress("secrets", done, len(secrets))


def _bucket(account: Account) -> str:
    """One bucket for all accounts: LocalStack lets each read it, and the same code is uploaded once for all of them."""
    return f"switchyard-artifacts-{account.region}"


def _upload(account: Account, content: dict[str, Any], folder: Path) -> Callable[[str], tuple[str, str]]:
    """Uploads every function's code, and gives what says where a function's code is."""
    names = sorted(set(template.functions(content).values()))
    storage = account.sibling(_ARTIFACTS_ACCOUNT).client("s3")
    bucket = _bucket(account)
    storage.create_bucket(Bucket=bucket)
    there = {item["Key"] for item in storage.list_objects_v2(Bucket=bucket).get("Contents", [])}
    keys = {}
    for done, name in enumerate(names, 1):
        artifact = artifacts.pack(folder, name)
        # Named by content: CloudFormation updates a function exactly when its code has changed.
        keys[name] = f"{name}/{artifact.sha256}.zip"
        if keys[name] not in there:
            with artifact.path.open("rb") as body:
                storage.put_object(Bucket=bucket, Key=keys[name], Body=body)
        _progress("code", done, len(names))
    return lambda name: (bucket, keys[name])


def _bring_about(account: Account, stack: str, content: dict[str, Any], parameters: dict[str, str]) -> dict[str, str]:
    formation = account.client("cloudformation")
    request = {
        "StackName": stack,
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        **_body(account, stack, content),
    }
    existing = _describe(formation, stack)
    if existing is None or existing["StackStatus"] == "DELETE_COMPLETE":
        stack_id = formation.create_stack(**request)["StackId"]
    else:
        stack_id = existing["StackId"]
        try:
            formation.update_stack(**request)
        except ClientError as e:
            if "No updates are to be performed" not in str(e):
                raise
            return _outputs(existing)
    return _outputs(_wait(formation, stack_id, "stack", len(content["Resources"])))


def _body(account: Account, stack: str, content: dict[str, Any]) -> dict[str, str]:
    body = json.dumps(content)
    if len(body.encode()) <= _MAX_INLINE_BYTES:
        return {"TemplateBody": body}
    bucket, key = _bucket(account), f"templates/{account.account}/{stack}.json"
    account.sibling(_ARTIFACTS_ACCOUNT).client("s3").put_object(Bucket=bucket, Key=key, Body=body.encode())
    return {"TemplateURL": f"{account.endpoint}/{bucket}/{key}"}


def _wait(formation: Any, stack_id: str, step: str, of: int = 0) -> dict[str, Any]:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    next_report = time.monotonic()
    while time.monotonic() < deadline:
        description = _describe(formation, stack_id)
        if description is None:
            return {}
        status = description["StackStatus"]
        settled = not status.endswith("_IN_PROGRESS")
        if settled or time.monotonic() >= next_report:
            # Less often: for a large stack this question costs as much as creating a resource.
            next_report = time.monotonic() + _REPORT_SECONDS
            _progress(step, *_ready(formation, stack_id, of))
        if settled:
            if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE") and not _failed(formation, stack_id):
                return description
            raise DeployError(_reason(formation, stack_id, description))
        time.sleep(_POLL_SECONDS)
    raise DeployError(f"the stack did not settle within {_DEADLINE_SECONDS:.0f} seconds")


def _ready(formation: Any, stack_id: str, of: int) -> tuple[int, int]:
    """How many resources are there, and of how many.

    Only for people to look at. LocalStack fails at this question now and then, because it lists a dictionary that the
    deployment is writing to; then it is answered at the next look.
    """
    try:
        resources = formation.describe_stack_resources(StackName=stack_id)["StackResources"]
    except ClientError:
        return 0, of
    return sum(resource["ResourceStatus"].endswith("_COMPLETE") for resource in resources), max(len(resources), of)


def _failed(formation: Any, stack_id: str) -> bool:
    """Whether a resource of a stack that is said to be complete is not.

    LocalStack rolls back and then says "CREATE_COMPLETE" all the same where a resource failed without a reason, as one
    does that takes a key of a secret which is not JSON.
    """
    resources = formation.describe_stack_resources(StackName=stack_id)["StackResources"]
    return any(resource["ResourceStatus"].endswith("_FAILED") for resource in resources)


def _describe(formation: Any, stack: str) -> dict[str, Any] | None:
    try:
        return formation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as e:
        if "does not exist" in str(e):
            return None
        raise


def _reason(formation: Any, stack_id: str, description: dict[str, Any]) -> str:
    events = formation.describe_stack_events(StackName=stack_id)["StackEvents"]
    # The first to fail is the cause; what fails after it was mostly cancelled because of it.
    for event in sorted(events, key=lambda event: event["Timestamp"]):
        if event["ResourceStatus"].endswith("_FAILED") and event["ResourceType"] != "AWS::CloudFormation::Stack":
            name, kind = event["LogicalResourceId"], event["ResourceType"]
            return f"{name} ({kind}) failed: {event.get('ResourceStatusReason', 'no reason given')}"
    return f"the stack is {description['StackStatus']}: {description.get('StackStatusReason', 'no reason given')}"


def _outputs(description: dict[str, Any]) -> dict[str, str]:
    return {output["OutputKey"]: output["OutputValue"] for output in description.get("Outputs", [])}


def _reserve_concurrency(account: Account, stack: str, reserved: dict[str, int]) -> None:
    """CloudFormation in LocalStack accepts ``ReservedConcurrentExecutions`` and does nothing about it."""
    for logical_id, count in reserved.items():
        detail = account.client("cloudformation").describe_stack_resource(StackName=stack, LogicalResourceId=logical_id)
        name = detail["StackResourceDetail"]["PhysicalResourceId"]
        account.client("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=count)


def _progress(step: str, done: int, of: int) -> None:
    print(json.dumps({"step": step, "done": done, "of": of}), file=sys.stderr, flush=True)
