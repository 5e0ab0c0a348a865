"""A small process that outlives LocalStack for one purpose: to kill what it leaves behind.

A process that is killed outright cannot clean up. So LocalStack tells this one of every bootstrap that it starts
(``+PID``) and of every one that has ended (``-PID``) over a pipe; when the pipe closes, for whatever reason, what
is still listed is killed. Signals meant for LocalStack's process group do not reach it: it runs in a session of
its own.

The parent's half is `Warden`; the child's half runs when this file is executed, with the standard library alone,
so that it starts within milliseconds.
"""

import os
import signal
import subprocess
import sys
import threading


class ProcessGuard:
    """The parent's half. One for each LocalStack."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-E", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._lock = threading.Lock()

    def watch(self, pid: int) -> None:
        """From now on the process group `pid` is killed when this process ends."""
        self._report(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        """The process has ended: its number may belong to somebody else soon."""
        self._report(f"-{pid}\n")

    def _report(self, line: str) -> None:
        with self._lock:
            try:
                os.write(self._process.stdin.fileno(), line.encode())
            except OSError:
                # The warden is gone (somebody killed it). Functions run without it; only the net is missing.
                pass


def _guard() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: set[int] = set()
    for line in sys.stdin:
        pid = int(line[1:])
        watched.add(pid) if line[0] == "+" else watched.discard(pid)
    for pid in watched:
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            pass


if __name__ == "__main__":
    _guard()
