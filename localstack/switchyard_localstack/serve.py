"""``serve``: one LocalStack, from its settings to its end."""

import logging
import os
import resource
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from . import compat, settings

HOST = "127.0.0.1"


class PortBusy(Exception):
    """Somebody else listens on the port."""


def serve(port: int, data: Path, exit_with_stdin: bool) -> None:
    """Runs LocalStack until SIGTERM, SIGINT or, when told so, the end of standard input. Does not return.

    Prints one line, ``ready``, to standard output when it answers; everything else goes to standard error.

    Raises PortBusy when the port is taken.
    """
    _require_free(port)
    settings.apply(port, data)
    announce = _standard_output_for_ourselves()
    _raise_file_limit()
    compat.prepare()

    from .process import Roster
    from .process_guard import ProcessGuard

    roster = Roster(data / "bootstraps", ProcessGuard())

    def stop() -> None:
        # An orderly shutdown of LocalStack takes seconds, and there is nothing to save: its state is in memory.
        roster.close()
        shutil.rmtree(data / "tmp", ignore_errors=True)
        os._exit(0)

    def fail(cause: BaseException) -> None:
        print(f"LocalStack ended unexpectedly: {type(cause).__name__}: {cause}", file=sys.stderr, flush=True)
        roster.close()
        os._exit(1)

    def stop_soon(*_: object) -> None:
        # Not in the signal handler itself, which may have interrupted a thread that holds a lock we need.
        threading.Thread(target=stop, name="stop", daemon=True).start()

    signal.signal(signal.SIGTERM, stop_soon)
    signal.signal(signal.SIGINT, stop_soon)
    if exit_with_stdin:
        threading.Thread(target=_wait_for_end_of_input, args=(stop,), name="stdin", daemon=True).start()

    from localstack.logging.setup import setup_logging_from_config
    from localstack.runtime import current, events

    from . import gateway, plugin

    setup_logging_from_config()
    _quieten()
    gateway.install(HOST, port)
    plugin.install(roster)
    runtime = current.initialize_runtime()

    def announce_when_ready() -> None:
        events.infra_ready.wait()
        try:
            _preload()
        except Exception as e:
            # Without this, whoever waits for the line would wait for ever.
            fail(e)
        os.write(announce, b"ready\n")

    threading.Thread(target=announce_when_ready, name="announce", daemon=True).start()
    try:
        runtime.run()
    except BaseException as e:
        fail(e)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as e:
            raise PortBusy(f"port {port} on {HOST} is in use: choose another one with --port ({e.strerror})") from e


def _standard_output_for_ourselves() -> int:
    """Keeps standard output for the contract with the caller; LocalStack prints to standard error instead."""
    sys.stdout.flush()
    ours = os.dup(1)
    os.dup2(2, 1)
    return ours


def _raise_file_limit() -> None:
    # Every bootstrap and every client takes a handful; the usual limit of 1,024 is soon reached.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _quieten() -> None:
    """One line for each request says nothing that a failing function does not say better."""
    logging.getLogger("localstack.request").setLevel(logging.WARNING)
    logging.getLogger("localstack.services.lambda_.provider").setLevel(logging.ERROR)


def _wait_for_end_of_input(stop: Callable[[], None]) -> None:
    while os.read(0, 4096):
        pass
    stop()


def _preload() -> None:
    from localstack.services.plugins import SERVICE_PLUGINS

    for name in settings.PRELOADED:
        SERVICE_PLUGINS.require(name)
    # Of what a deployment needs, this takes longest to import.
    import samtranslator.translator.translator  # noqa: F401
