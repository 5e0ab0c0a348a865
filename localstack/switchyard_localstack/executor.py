"""One Lambda execution environment: a bootstrap that is started when it is first needed, and again after its death.

LocalStack decides how many environments a function has and which of them takes an invocation; an environment has one
invocation at a time. It is told how that went by what `invoke` returns, also when the process could not be started:
raising would surface as an error of the service, not of the function, which is not how AWS tells it.
"""

import logging
import os
import threading
import time
from pathlib import Path

from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor
from localstack.utils.strings import to_bytes

from . import wording
from .exchange import Invocation, Phase
from .process import Process, Roster
from .wording import Outcome

LOG = logging.getLogger(__name__)

# Lambda's limit for the init phase.
_INIT_SECONDS = 10.0

# What a bootstrap sees of this machine: where programs are, and nothing of the user's settings.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")


class ProcessExecutor(RuntimeExecutor):
    """Runs the ``bootstrap`` of a function's code as a process of this machine."""

    roster: Roster
    """Set once, before the first function is made."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:
        super().__init__(id, function_version)
        self._environment: dict[str, str] = {}
        self._process: Process | None = None
        self._lock = threading.Lock()
        self._stopped = False

    # Called by LocalStack

    def start(self, env_vars: dict[str, str]) -> None:
        self._environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        # LocalStack's values are partly numbers.
        self._environment.update({name: str(value) for name, value in env_vars.items()})
        self._environment["LAMBDA_TASK_ROOT"] = str(self._folder)
        self._environment.setdefault("AWS_EC2_METADATA_DISABLED", "true")

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            process = self._process
        if process is not None:
            process.stop()

    def get_address(self) -> str:
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        # Meant for the init program of LocalStack's image, which does not take part here.
        return "http://127.0.0.1"

    def get_logs(self) -> str:
        return self._process.output.take() if self._process is not None else ""

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        # LocalStack deletes the code when no version uses it any more. Doing it here, when one version ends, would
        # take it away from the next one after an update that changed only the configuration.
        pass

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        request_id = payload["invoke-id"]
        began = time.monotonic()
        init_ms = None
        process, outcome = self._process, None
        if process is None or not process.running:
            process, outcome = self._begin(request_id)
            if outcome is None:
                init_ms = (time.monotonic() - began) * 1000
                began = time.monotonic()
        if outcome is None:
            outcome = self._run(process, request_id, payload)
        duration_ms = (time.monotonic() - began) * 1000
        logs = self._logs(request_id, process, outcome, duration_ms, init_ms)
        return InvocationResult(request_id, outcome.payload, is_error=outcome.is_error, logs=logs)

    # The steps of an invocation

    def _begin(self, request_id: str) -> tuple[Process | None, Outcome | None]:
        """Starts a process and waits until it asks for work; or says why not."""
        program = self._folder / "bootstrap"
        function = self.function_version.id
        if not program.is_file():
            reason = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
            return None, wording.not_a_program(request_id, reason)
        try:
            with self._lock:
                if self._stopped:
                    return None, wording.failed("Runtime.ExitError", request_id, "the environment was stopped")
                sha = self.function_version.config.code.code_sha256
                process = self.roster.start(function.account, function.function_name, sha, program, self._environment)
                self._process = process
        except OSError as e:
            reason = f"fork/exec /var/task/bootstrap: {(e.strerror or str(e)).lower()}"
            return None, wording.not_a_program(request_id, reason)
        phase = process.exchange.wait_until_ready(time.monotonic() + _INIT_SECONDS)
        if phase is Phase.READY:
            return process, None
        if phase is Phase.INIT_ERROR:
            # It is about to end by itself; the next invocation gets a new one in any case.
            process.stop()
            return process, Outcome(process.exchange.init_error, is_error=True, status="error")
        if phase is Phase.TIMED_OUT:
            process.kill()
            return process, wording.timed_out(request_id, _INIT_SECONDS)
        return process, wording.exited(request_id, process.exit_code, process.exit)

    def _run(self, process: Process, request_id: str, payload: dict[str, str]) -> Outcome:
        """Hands the invocation over and waits for its answer, its end or its deadline."""
        exchange = process.exchange
        exchange.put(
            Invocation(
                request_id=request_id,
                function_arn=payload["invoked-function-arn"],
                payload=to_bytes(payload["payload"]),
                trace_id=payload["trace-id"],
                deadline_ms=int((time.time() + self._timeout) * 1000),
            )
        )
        phase = exchange.wait_for_answer(time.monotonic() + self._timeout)
        if phase is Phase.ANSWERED:
            return Outcome(exchange.answer.payload, exchange.answer.is_error)
        if phase is Phase.TIMED_OUT:
            process.kill()
            return wording.timed_out(request_id, self._timeout)
        return wording.exited(request_id, process.exit_code, process.exit)

    def _logs(
        self, request_id: str, process: Process | None, outcome: Outcome, duration_ms: float, init_ms: float | None
    ) -> str:
        """What CloudWatch Logs gets of this invocation."""
        version = self.function_version
        lines = [f"START RequestId: {request_id} Version: {version.id.qualifier}"]
        if process is not None:
            lines += process.output.take().splitlines()
        if outcome.line is not None:
            lines.append(outcome.line)
        lines.append(f"END RequestId: {request_id}")
        peak_mb = process.peak_memory_mb() if process is not None else None
        memory_mb = version.config.memory_size
        lines.append(wording.report(request_id, duration_ms, memory_mb, peak_mb, init_ms, outcome.status))
        return "\n".join(lines) + "\n"

    @property
    def _folder(self) -> Path:
        return self.function_version.config.code.get_unzipped_code_location()

    @property
    def _timeout(self) -> float:
        return float(self.function_version.config.timeout)
