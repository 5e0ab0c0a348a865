"""One running bootstrap: the process, its Runtime API, its output, and the file that says that it runs."""

import json
import os
import signal
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from .exchange import Exchange
from .output import Output
from .runtime_api import RuntimeApi
from .process_guard import ProcessGuard

# Lambda gives a function without extensions no time at all; this is for those that write a last line.
_GRACE_SECONDS = 0.3


class Roster:
    """Who runs: starts processes, and is what everything is stopped by when LocalStack ends."""

    def __init__(self, folder: Path, process_guard: ProcessGuard) -> None:
        self.folder = folder
        self.process_guard = process_guard
        self._lock = threading.Lock()
        self._running: set[Process] = set()
        self._closed = False

    def start(self, account: str, function: str, sha: str, program: Path, environment: dict[str, str]) -> "Process":
        """Starts `program`; it is listed until it ends.

        Raises OSError when the program cannot be executed: missing, no permission, or not a program.
        """
        with self._lock:
            if self._closed:
                raise OSError("LocalStack is shutting down")
            process = Process(self, account, function, sha, program, environment)
            self._running.add(process)
        process.watch()
        return process

    def ended(self, process: "Process") -> None:
        """Called by a process that has ended."""
        with self._lock:
            self._running.discard(process)

    def close(self) -> None:
        """Kills everything and starts nothing any more."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            process.kill()


class Process:
    """A bootstrap from its start to its end. Make it by `Roster.start`."""

    def __init__(
        self,
        roster: Roster,
        account: str,
        function: str,
        sha: str,
        program: Path,
        environment: dict[str, str],
    ) -> None:
        self.exchange = Exchange()
        self.started = time.monotonic()
        self._roster = roster
        self._ended = threading.Event()
        self._reaped = False
        self._signalling = threading.Lock()
        self._api = RuntimeApi(self.exchange)
        reading, writing = os.pipe()
        try:
            self._child = subprocess.Popen(
                [str(program)],
                cwd=program.parent,
                env={**environment, "AWS_LAMBDA_RUNTIME_API": self._api.address},
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                # A group of its own: what a bootstrap starts ends with it, and Ctrl-C in a terminal is not for it.
                process_group=0,
            )
        except BaseException:
            os.close(reading)
            self._api.close()
            raise
        finally:
            os.close(writing)
        self.pid = self._child.pid
        roster.process_guard.watch(self.pid)
        self.output = Output(reading)
        self._note = roster.folder / account / function / f"{self.pid}.json"
        self._write_note(sha)

    def watch(self) -> None:
        """Notices the end of the process, from a thread of its own."""
        threading.Thread(target=self._wait, name=f"bootstrap-{self.pid}", daemon=True).start()

    @property
    def running(self) -> bool:
        """False once the process has ended."""
        return not self._ended.is_set()

    @property
    def exit(self) -> str:
        """How it ended, in Lambda's words: ``exit status 1``, ``signal: killed``."""
        code = self._child.returncode
        if code is None or code >= 0:
            return f"exit status {code}"
        # Lambda prints what Go prints: "killed", "terminated", "aborted", "segmentation fault".
        return f"signal: {signal.strsignal(-code) or -code}".lower()

    @property
    def exit_code(self) -> int | None:
        """As `subprocess` has it: negative for a signal, None while it runs."""
        return self._child.returncode

    def peak_memory_mb(self) -> int | None:
        """The most memory it has held, in MiB; None where the system does not say."""
        try:
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return -(-int(line.split()[1]) // 1024)
        except (OSError, ValueError):
            pass
        return None

    def stop(self) -> None:
        """Asks it to end, and kills it when it does not within a moment."""
        self._signal(signal.SIGTERM)
        if not self._ended.wait(_GRACE_SECONDS):
            self.kill()

    def kill(self) -> None:
        """Kills the whole process group, at once."""
        self._signal(signal.SIGKILL)
        self._ended.wait(5)

    def _signal(self, number: int) -> None:
        with self._signalling:
            # A number that has been reaped may be somebody else's by now.
            if not self._reaped:
                try:
                    os.killpg(self.pid, number)
                except OSError:
                    pass

    def _wait(self) -> None:
        # Seen, but not reaped: the number is still ours, and what the bootstrap started ends with it.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self._signal(signal.SIGKILL)
        with self._signalling:
            self._child.wait()
            self._reaped = True
        self._roster.process_guard.forget(self.pid)
        self._note.unlink(missing_ok=True)
        self._ended.set()
        self._roster.ended(self)
        self.exchange.close()
        self._api.close()

    def _write_note(self, sha: str) -> None:
        self._note.parent.mkdir(parents=True, exist_ok=True)
        note = {"pid": self.pid, "started_at": datetime.now(UTC).isoformat(), "sha": sha}
        # Renamed into place: whoever looks finds all of it or nothing.
        draft = self._note.with_suffix(".tmp")
        draft.write_text(json.dumps(note))
        draft.rename(self._note)
