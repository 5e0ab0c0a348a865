"""LocalStack's gateway on the loopback interface alone, in plain HTTP.

LocalStack listens on every interface whatever host it is told, notices a busy port only in its log, and makes a
certificate for TLS that nobody here uses.
"""

from localstack.runtime.server import twisted as server
from localstack.utils import ssl
from rolo.gateway import Gateway
from twisted.internet import reactor


def install(host: str, port: int) -> None:
    """To be called before the runtime is started; its start then raises when the port is taken."""

    def register(self: server.TwistedRuntimeServer, gateway: Gateway, *_: object) -> None:
        reactor.listenTCP(port, server.TwistedGateway(gateway), backlog=512, interface=host)

    server.TwistedRuntimeServer.register = register
    ssl.create_ssl_cert = lambda **_: (None, None, None)
    ssl.install_predefined_cert_if_available = lambda: None
