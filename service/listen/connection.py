"""What one connection may cost: bytes at once, bytes until an answer, and seconds of waiting.

pynetdicom reads as many bytes as the head of a PDU claims, up to 4 GB, waits for them for ever, and
puts no bound on an object. Here each has one, also before anybody is asked who calls.
"""

import socket
import time

import structlog

PDU_BYTES = 1024**2
"""What we say we take at once (PS3.8 annex D.1), a slice in one piece: 160 of 512 x 512 a second
over four associations; with the library's 16 kB it were 113, and no more with 4 MB.
"""

_HEAD_BYTES = 64 * 1024
"""What a PDU may hold beside its data, far more than it needs."""

_PDU_S = 60
"""From the first byte of a PDU to its last: 17 kB a second, as slow as an upload by HTTP may be."""

_log = structlog.get_logger(__name__)


class TooMuch(ConnectionError):
    """The peer sends more than it may; the connection ends."""


class BoundedReader:
    """Reads from one association's socket."""

    def __init__(self, connection: socket.socket, max_bytes: int) -> None:
        """`max_bytes` may arrive until something is answered: those of one object."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(_PDU_S)
        self._connection = connection
        self._max_bytes = max_bytes
        self._unanswered = 0

    def answered(self) -> None:
        """Count anew."""
        self._unanswered = 0

    def close(self) -> None:
        """Give the socket back, which the library forgets where its peer was faster to close."""
        self._connection.close()

    def read(self, nr_bytes: int) -> bytearray:
        """So many bytes, fewer where the peer closed. Raises `TooMuch` and `TimeoutError`."""
        self._unanswered += nr_bytes
        if nr_bytes > PDU_BYTES + _HEAD_BYTES or self._unanswered > self._max_bytes:
            _log.warning("connection closed", code="too_many_bytes")
            raise TooMuch
        data, filled = bytearray(nr_bytes), 0
        deadline = time.monotonic() + _PDU_S
        with memoryview(data) as view:
            while filled < nr_bytes:
                self._connection.settimeout(max(0.01, deadline - time.monotonic()))
                received = self._connection.recv_into(view[filled:])
                if not received:
                    break
                filled += received
        self._connection.settimeout(_PDU_S)
        return data[:filled]
