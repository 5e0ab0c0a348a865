"""What LocalStack 4.13.1 needs from a newer Python than the oldest one that this project supports."""

import sys
import threading


class _LockType:
    """Stands in for ``threading.Lock``: calling it returns a real lock."""

    def __new__(cls, _allocate=threading.Lock):
        return _allocate()


def prepare() -> None:
    """Makes LocalStack importable on Python 3.11 and 3.12.

    There ``threading.Lock`` is a function, and LocalStack evaluates the annotation ``Lock | None`` while it is
    loaded, which a function cannot take part in. From 3.13 on it is a class, and nothing is done.
    """
    if sys.version_info < (3, 13) and not isinstance(threading.Lock, type):
        threading.Lock = _LockType  # type: ignore[misc,assignment]
