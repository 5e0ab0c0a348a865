"""What the tests share: one LocalStack, accounts of their own, functions that do what an event tells them.

No test sleeps. `eventually` waits for a condition and fails with what it saw last when the deadline passes.
"""

import atexit
import base64
import io
import itertools
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

PACKAGES = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PACKAGES))

from switchyard_localstack.account import Account  # noqa: E402

DEADLINE_SECONDS = 30.0

T = TypeVar("T")

_accounts = itertools.count(100_000_000_001)


def eventually(what: str, look: Callable[[], T], seconds: float = DEADLINE_SECONDS) -> T:
    """The first truthy answer of `look`; an AssertionError naming `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds:.0f} seconds: {what}; seen last: {seen!r}")
        pause.wait(0.02)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def alive(pid: int) -> bool:
    """Whether a process runs. A zombie is dead: somebody else has to reap it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Server:
    """One LocalStack in a process of its own."""

    def __init__(self, data: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.data = data
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.log = data / "log"
        data.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "switchyard_localstack", "serve", "--exit-with-stdin"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), "--data", str(data)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(PACKAGES)},
            )
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def wait_until_ready(self) -> "Server":
        """Returns itself when it has said that it is ready."""
        line = self._lines.get(timeout=2 * DEADLINE_SECONDS)
        if line != b"ready\n":
            raise AssertionError(f"said {line!r} instead of ready; its log:\n{self.log.read_text()}")
        return self

    def account(self) -> Account:
        """A world that nobody has used."""
        return Account(self.endpoint, str(next(_accounts)), "us-east-1")

    def notes(self, account: str = "*", function: str = "*") -> list[dict[str, Any]]:
        """What the files about running bootstraps say."""
        return [json.loads(path.read_text()) for path in self.data.glob(f"bootstraps/{account}/{function}/*.json")]

    def stop(self) -> None:
        """Lets it end by the end of its standard input."""
        self.process.stdin.close()
        self.process.wait(DEADLINE_SECONDS)
        self._reader.join()
        self.process.stdout.close()


_folder = tempfile.TemporaryDirectory(prefix="switchyard-")
_shared: list[Server] = []


def server() -> Server:
    """The LocalStack that all tests share which do not kill it."""
    if not _shared:
        _shared.append(Server(Path(_folder.name) / "shared").wait_until_ready())
        atexit.register(_shared[0].stop)
    return _shared[0]


def folder() -> Path:
    """An empty folder that is gone after the tests."""
    return Path(tempfile.mkdtemp(dir=_folder.name))


BOOTSTRAP = f"#!{sys.executable} -IS\n" + (Path(__file__).parent / "bootstrap.py").read_text()
"""A function that does what its event says: see bootstrap.py."""


def packed(bootstrap: str | bytes | None, mode: int = 0o755) -> bytes:
    """A zip with this bootstrap; with None, one without any."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap" if bootstrap is not None else "README")
        entry.external_attr = mode << 16
        archive.writestr(entry, bootstrap or b"")
    return content.getvalue()


class Function:
    """A deployed function, and how to talk to it."""

    def __init__(
        self,
        account: Account,
        name: str = "subject",
        bootstrap: str | bytes | None = BOOTSTRAP,
        timeout: int = 10,
        deployed: bool = False,
        **environment: str,
    ) -> None:
        self.account = account
        self.name = name
        self._client = account.client("lambda")
        if deployed:
            return
        self._client.create_function(
            FunctionName=name,
            Runtime="provided.al2023",
            Handler="bootstrap",
            Role=f"arn:aws:iam::{account.account}:role/any",
            Timeout=timeout,
            MemorySize=256,
            Environment={"Variables": environment},
            Code={"ZipFile": packed(bootstrap)},
        )

    def invoke(self, **event: Any) -> tuple[Any, bool, list[str]]:
        """The answer, whether it is an error, and the lines logged."""
        response = self._client.invoke(FunctionName=self.name, Payload=json.dumps(event), LogType="Tail")
        text = response["Payload"].read()
        logs = base64.b64decode(response["LogResult"]).decode().splitlines()
        return json.loads(text) if text else None, "FunctionError" in response, logs

    def logs(self) -> list[str]:
        """Everything in its log group, in order."""
        client = self.account.client("logs")
        try:
            events = client.filter_log_events(logGroupName=f"/aws/lambda/{self.name}")["events"]
        except client.exceptions.ResourceNotFoundException:
            return []
        return [event["message"].rstrip("\n") for event in events]


class Queue:
    """An SQS queue."""

    def __init__(self, account: Account, name: str, **attributes: str) -> None:
        self._client = account.client("sqs")
        self.url = self._client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.arn = self.attribute("QueueArn")

    def attribute(self, name: str) -> str:
        """One attribute, as it is now."""
        return self._client.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])["Attributes"][name]

    def send(self, body: str, **parameters: Any) -> str:
        """Sends one message and gives its id."""
        return self._client.send_message(QueueUrl=self.url, MessageBody=body, **parameters)["MessageId"]

    def send_all(self, bodies: list[str]) -> list[str]:
        """Sends up to ten messages in one call and gives their ids."""
        entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
        sent = self._client.send_message_batch(QueueUrl=self.url, Entries=entries)["Successful"]
        return [entry["MessageId"] for entry in sorted(sent, key=lambda entry: int(entry["Id"]))]

    def receive(self) -> list[dict[str, Any]]:
        """Up to ten messages that are there now."""
        response = self._client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
        )
        return response.get("Messages", [])

    def is_empty(self) -> bool:
        """Neither waiting nor being handled."""
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return all(self.attribute(name) == "0" for name in names)


class Journal:
    """A folder into which the test's function writes every event it gets, one file each."""

    def __init__(self) -> None:
        self.folder = folder()

    def entries(self) -> list[dict[str, Any]]:
        """What was written, oldest first."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))]

    def records(self) -> list[dict[str, Any]]:
        """The SQS records of all events."""
        return [record for entry in self.entries() for record in entry["event"].get("Records", [])]
