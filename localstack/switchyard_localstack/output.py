"""What a process prints, kept until an invocation takes it.

A thread reads all the time, so that a talkative process never blocks on a full pipe; an invocation that ends reads
what is left in the pipe itself, so that the lines a function printed before it answered are in this invocation's
logs and not in the next one's.
"""

import os
import select
import threading

# More than any invocation should print. Beyond it the oldest go, so that a function which prints without end while
# nobody invokes it cannot eat the memory of LocalStack.
_LIMIT_BYTES = 4 * 1024 * 1024


class Output:
    """Owns the reading end of the pipe that is a process's standard output and error."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._kept = bytearray()
        self._open = True
        threading.Thread(target=self._read_on, name="bootstrap-output", daemon=True).start()

    def take(self) -> str:
        """Everything printed since the last time."""
        with self._lock:
            self._read_available()
            text, self._kept = self._kept, bytearray()
        return text.decode("utf-8", "replace")

    def _read_on(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while self._open:
            poll.poll()
            with self._lock:
                if not self._read_available():
                    # Closed by this thread alone: nobody can be polling the number when it is given away.
                    self._open = False
                    os.close(self._descriptor)

    def _read_available(self) -> bool:
        """Reads what the pipe holds now; False at its end."""
        while self._open:
            try:
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            self._kept += data
            if len(self._kept) > _LIMIT_BYTES:
                del self._kept[: -_LIMIT_BYTES // 2]
        return False
