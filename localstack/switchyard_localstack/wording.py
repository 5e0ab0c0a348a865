"""Lambda's own words: what AWS answers and logs when a function does not answer by itself."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Outcome:
    """How an invocation ended: what its caller gets, and what its logs say about it."""

    payload: bytes
    is_error: bool
    line: str | None = None
    """Lambda's line in the logs, for an end that the function did not bring about itself."""
    status: str | None = None
    """The status in the REPORT line; None when the function answered."""


def failed(kind: str, request_id: str, message: str) -> Outcome:
    """An invocation that failed outside the function's code."""
    text = f"RequestId: {request_id} Error: {message}"
    payload = json.dumps({"errorType": kind, "errorMessage": text}).encode()
    return Outcome(payload, True, f"{text}\n{kind}", f"error\tError Type: {kind}")


def timed_out(request_id: str, seconds: float) -> Outcome:
    """An invocation that ran into its deadline."""
    message = f"Task timed out after {seconds:.2f} seconds"
    now = datetime.now(UTC)
    line = f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}Z {request_id} {message}"
    return Outcome(failed("Sandbox.Timedout", request_id, message).payload, True, line, "timeout")


def exited(request_id: str, code: int | None, how: str) -> Outcome:
    """An invocation during which the process ended."""
    reason = "Runtime exited without providing a reason" if code == 0 else f"Runtime exited with error: {how}"
    return failed("Runtime.ExitError", request_id, reason)


def not_a_program(request_id: str, reason: str) -> Outcome:
    """An invocation of a bootstrap that cannot be executed."""
    return failed("Runtime.InvalidEntrypoint", request_id, reason)


def report(
    request_id: str, duration_ms: float, memory_mb: int, peak_mb: int | None, init_ms: float | None, status: str | None
) -> str:
    """The REPORT line at the end of an invocation's logs."""
    fields = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {duration_ms:.2f} ms",
        f"Billed Duration: {math.ceil(duration_ms + (init_ms or 0.0))} ms",
        f"Memory Size: {memory_mb} MB",
        f"Max Memory Used: {peak_mb if peak_mb is not None else memory_mb} MB",
    ]
    if init_ms is not None:
        fields.append(f"Init Duration: {init_ms:.2f} ms")
    if status is not None:
        fields.append(f"Status: {status}")
    return "\t".join(fields)
