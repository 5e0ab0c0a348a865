"""What is put into LocalStack: the executor that runs bootstraps as processes, and the corrections around it."""

from functools import partial

from plux import PluginFinder, PluginSpec

from . import code, polling, queues
from .executor import ProcessExecutor
from .process import Roster


def install(roster: Roster) -> None:
    """Registers everything. LocalStack must be importable (see ``compat.py``) and not have been started."""
    from localstack.services.lambda_.invocation import runtime_executor
    from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin

    class ProcessRuntimeExecutorPlugin(RuntimeExecutorPlugin):
        name = "process"

        def load(self, *args: object, **kwargs: object) -> type[ProcessExecutor]:
            return ProcessExecutor

    class Finder(PluginFinder):
        # Found without being installed: the usual finder reads the metadata of installed distributions.
        def find_plugins(self) -> list[PluginSpec]:
            plugin = ProcessRuntimeExecutorPlugin
            return [PluginSpec(plugin.namespace, plugin.name, plugin)]

    ProcessExecutor.roster = roster
    runtime_executor.EXECUTOR_PLUGIN_MANAGER.finder = Finder()
    code.install()
    polling.install()
    queues.install()
    _wait_less()


def _wait_less() -> None:
    """Shortens two pauses that were most of a deployment's time.

    A function is ready some ten milliseconds after its creation or update; LocalStack looks again after half a second,
    and after a whole one, for each function in turn.
    """
    from localstack import config
    from localstack.services.lambda_ import provider

    provider.poll_condition = partial(provider.poll_condition, interval=0.01)
    config.BOTO_WAITER_DELAY, config.BOTO_WAITER_MAX_ATTEMPTS = 0.05, 2400
