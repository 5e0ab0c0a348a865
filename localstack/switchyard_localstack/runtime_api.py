"""The Lambda Runtime API, as much of it as a runtime uses, on a port of its own for each process.

AWS gives every execution environment its own address in ``AWS_LAMBDA_RUNTIME_API``, with nothing in it that names
the function; so does this. Requests wait in threads of their own: a process has one or two connections, and a
thread that waits costs nothing.
"""

import json
import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler

from .exchange import Answer, Exchange

LOG = logging.getLogger(__name__)

_PREFIX = "/2018-06-01/runtime"

# Lambda's limit for a synchronous response: 6 MB and a little for the envelope.
MAX_RESPONSE_BYTES = 6_291_556


class RuntimeApi:
    """Serves one exchange on 127.0.0.1 until it is closed."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        threading.Thread(target=self._accept, name=f"runtime-api-{self.address}", daemon=True).start()

    def close(self) -> None:
        """Stops listening and hangs up on whoever is connected."""
        with self._lock:
            self._closed = True
            sockets = [self._listener, *self._connections]
        for each in sockets:
            try:
                # Closing alone would not wake a thread that is blocked on the socket.
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection, peer), daemon=True).start()

    def _serve(self, connection: socket.socket, peer: tuple) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Conversation(connection, peer, self)
        except (OSError, ValueError):
            # The process has hung up, mostly because it was killed; its end is noticed elsewhere.
            pass
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()


class _Conversation(BaseHTTPRequestHandler):
    """One connection of a process."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave in one packet
    server: RuntimeApi

    def do_GET(self) -> None:
        if self.path != f"{_PREFIX}/invocation/next":
            self._reply(404, {"errorMessage": "no such path", "errorType": "InvalidPath"})
            return
        invocation = self.server.exchange.next()
        if invocation is None:
            # The process is being ended: no answer is the answer.
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(invocation.payload)))
        self.send_header("Lambda-Runtime-Aws-Request-Id", invocation.request_id)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(invocation.deadline_ms))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", invocation.function_arn)
        self.send_header("Lambda-Runtime-Trace-Id", invocation.trace_id)
        self.end_headers()
        self.wfile.write(invocation.payload)
        self.wfile.flush()

    def do_POST(self) -> None:
        body, trailers = self._body()
        if self.path == f"{_PREFIX}/init/error":
            self.server.exchange.fail_init(body)
            self._reply(202, {"status": "OK"})
            return
        start = f"{_PREFIX}/invocation/"
        request_id, _, action = self.path.removeprefix(start).partition("/")
        if not self.path.startswith(start) or action not in ("response", "error"):
            self._reply(404, {"errorMessage": "no such path", "errorType": "InvalidPath"})
            return
        # A streamed response that breaks off says so in a trailer, after its status line has gone.
        answer = Answer(body, is_error=action == "error" or "lambda-runtime-function-error-type" in trailers)
        too_large = action == "response" and len(body) > MAX_RESPONSE_BYTES
        if too_large:
            answer = Answer(_too_large(len(body)), is_error=True)
        if not self.server.exchange.reply(request_id, answer):
            self._reply(400, {"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"})
        elif too_large:
            self._reply(413, {"errorMessage": "Payload too large", "errorType": "RequestEntityTooLarge"})
        else:
            self._reply(202, {"status": "OK"})

    def _body(self) -> tuple[bytes, set[str]]:
        """The body, and the names of the trailers behind it."""
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0)), set()
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        trailers = set()
        while (line := self.rfile.readline().strip()) != b"":
            trailers.add(line.split(b":")[0].decode("latin-1").lower())
        return b"".join(chunks), trailers

    def _reply(self, status: int, content: dict[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        LOG.debug(format, *args)


def _too_large(size: int) -> bytes:
    message = (
        f"Response payload size ({size} bytes) exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
    )
    return json.dumps({"errorType": "Function.ResponseSizeTooLarge", "errorMessage": message}).encode()
