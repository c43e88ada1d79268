"""Ends a conversation over a socket that must end: nobody wants it any more, or it crawls.

A library's own time-out counts from the last byte, so a peer that sends one now and then holds its
caller for ever; and a caller that waits for bytes cannot see that it should stop. So a thread looks
at both, and shuts the socket down: whoever waits for it then sees a broken connection.
"""

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from service.settings import Settings
from service.stopping import StopSignal

_LOOK_S = 0.2


class Watch:
    """Watches one socket at a time, while `begin` was called last and not `rest`."""

    def __init__(self, stop: StopSignal, settings: Settings) -> None:
        self._stop, self._timeout_s = stop, settings.pacs_timeout_s
        self._least_bytes = settings.min_upload_bytes_per_s * settings.pacs_timeout_s
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._since: float | None = None
        self._moved = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.too_slow = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self.let_go()

    def hold(self, connection: socket.socket) -> None:
        """Watch this socket instead of the last one.

        A duplicate of it is kept: TLS and HTTP libraries take the socket itself apart. The
        connection stays open until `let_go` or the end, also where its owner closed it.
        """
        self.let_go()
        with self._lock:
            self._socket = connection.dup()

    def let_go(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def begin(self) -> None:
        """Something is waited for from now on."""
        with self._lock:
            self._since, self._moved, self.too_slow = time.monotonic(), 0, False

    def moved(self, count: int) -> None:
        """So many bytes came or went."""
        with self._lock:
            self._moved += count

    def rest(self) -> None:
        """Nothing is waited for."""
        with self._lock:
            self._since = None

    def _look(self) -> None:
        while not self._over.wait(min(_LOOK_S, self._timeout_s / 4)):
            with self._lock:
                if self._stop.reason is not None or self._crawls():
                    self._shut()

    def _crawls(self) -> bool:
        """Whether a whole time-out brought too little; else the next one counts anew."""
        now = time.monotonic()
        if self._since is None or now - self._since < self._timeout_s:
            return False
        if self._moved < self._least_bytes:
            self.too_slow = True
            return True
        self._since, self._moved = now, 0
        return False

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # not connected yet, or no longer
                self._socket.shutdown(socket.SHUT_RDWR)
