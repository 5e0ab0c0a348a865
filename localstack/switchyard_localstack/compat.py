"""What LocalStack 4.13.1 needs from a newer Python than the oldest one that this project supports."""

import functools
import sys
import threading
from typing import Any


class _LockType:
    """Stands in for ``threading.Lock``: calling it returns a real lock."""

    def __new__(cls, _allocate=threading.Lock):
        return _allocate()


def prepare() -> None:
    """Makes LocalStack importable on Python 3.11 and 3.12, and safe there."""
    if sys.version_info < (3, 13):
        _make_the_lock_a_class()
        _compile_routes_one_at_a_time()


def _make_the_lock_a_class() -> None:
    """``threading.Lock`` is a function before 3.13, and LocalStack evaluates the annotation ``Lock | None`` while it is
    loaded, which a function cannot take part in."""
    if not isinstance(threading.Lock, type):
        threading.Lock = _LockType  # type: ignore[misc,assignment]


def _compile_routes_one_at_a_time() -> None:
    """Werkzeug compiles a syntax tree for each route, and LocalStack makes a service's routes at its first request. Two
    threads at it at once trip over CPython's count of the recursion depth (gh-106905: "AST constructor recursion depth
    mismatch"), and the request fails."""
    from werkzeug.routing.rules import Rule

    lock, compile_builder = threading.Lock(), Rule._compile_builder

    @functools.wraps(compile_builder)
    def one_at_a_time(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return compile_builder(*args, **kwargs)

    Rule._compile_builder = one_at_a_time  # type: ignore[method-assign]
