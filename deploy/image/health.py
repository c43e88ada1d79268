"""Whether the process of this container is ready: exit status 0, else 1, for the engine to see.

Asks /health/ready of the service at LTS_PORT; with --dimse, whether `listen` takes connections at
LTS_LISTEN_PORT.
"""

import http.client
import os
import socket
import ssl
import sys

HOST = "127.0.0.1"
TIMEOUT_S = 3


def is_ready() -> bool:
    """Whether the service says so; over TLS where it serves TLS, whoever signed its certificate."""
    port = int(os.environ.get("LTS_PORT") or 8000)
    connection: http.client.HTTPConnection
    if os.environ.get("LTS_TLS_CERTIFICATE"):
        # The certificate is for the names that callers use, and this is a loopback address.
        context = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(HOST, port, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)
    connection.request("GET", "/health/ready")
    return connection.getresponse().status == 200


def takes_connections() -> bool:
    port = int(os.environ.get("LTS_LISTEN_PORT") or 11112)
    socket.create_connection((HOST, port), TIMEOUT_S).close()
    return True


def main(arguments: list[str]) -> int:
    try:
        well = takes_connections() if "--dimse" in arguments else is_ready()
    except (OSError, http.client.HTTPException):
        well = False
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
