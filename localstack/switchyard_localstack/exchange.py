"""The desk between the one who invokes a function and the process that serves it.

The invoking thread puts an invocation on it and waits; the process fetches it by HTTP (``/next``) and hands back a
response or an error; the one who watches the process reports its end. One exchange serves one process, from its
start to its end, so that a late answer of a killed process never reaches its successor.
"""

import threading
import time
from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True)
class Invocation:
    """One invocation as the Runtime API hands it out."""

    request_id: str
    function_arn: str
    payload: bytes
    trace_id: str
    deadline_ms: int


@dataclass(frozen=True)
class Answer:
    """What the process said about an invocation."""

    payload: bytes
    is_error: bool


class Phase(Enum):
    """What a waiting thread was woken by."""

    READY = auto()
    INIT_ERROR = auto()
    ANSWERED = auto()
    EXITED = auto()
    TIMED_OUT = auto()


class Exchange:
    """Thread-safe; every wait ends by its deadline or by the end of the process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready = False
        self._closed = False
        self._init_error: bytes | None = None
        self._offered: Invocation | None = None
        self._current: Invocation | None = None
        self._answer: Answer | None = None

    # The invoking side

    def wait_until_ready(self, deadline: float) -> Phase:
        """Waits until the process asks for its first invocation; `deadline` is in seconds of the monotonic clock."""
        with self._changed:
            while True:
                if self._init_error is not None:
                    return Phase.INIT_ERROR
                if self._closed:
                    return Phase.EXITED
                if self._ready:
                    return Phase.READY
                if not self._changed.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    return Phase.TIMED_OUT

    def put(self, invocation: Invocation) -> None:
        """Offers an invocation to the process. The one before must have been answered."""
        with self._changed:
            self._answer = None
            self._offered = invocation
            self._changed.notify_all()

    def wait_for_answer(self, deadline: float) -> Phase:
        """Waits for the answer to the invocation that was put; then see `answer`."""
        with self._changed:
            while True:
                if self._answer is not None:
                    return Phase.ANSWERED
                if self._closed:
                    return Phase.EXITED
                if not self._changed.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    return Phase.TIMED_OUT

    @property
    def answer(self) -> Answer | None:
        """The answer, once there is one."""
        return self._answer

    @property
    def init_error(self) -> bytes | None:
        """The body of ``/runtime/init/error``, if the process posted one."""
        return self._init_error

    # The process's side

    def next(self) -> Invocation | None:
        """Blocks until there is an invocation; None once the process is over."""
        with self._changed:
            self._ready = True
            self._changed.notify_all()
            while self._offered is None and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            self._current, self._offered = self._offered, None
            return self._current

    def reply(self, request_id: str, answer: Answer) -> bool:
        """Takes an answer; False when it is for no invocation that is waited for."""
        with self._changed:
            if self._current is None or self._current.request_id != request_id:
                return False
            self._current = None
            self._answer = answer
            self._changed.notify_all()
            return True

    def fail_init(self, payload: bytes) -> None:
        """The process says that it cannot start."""
        with self._changed:
            self._init_error = payload
            self._changed.notify_all()

    def close(self) -> None:
        """The process has ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
