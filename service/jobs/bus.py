"""What processes tell each other of jobs at once: that one waits, is to stop, has ended.

A message may be lost, with the connection that carried it; so each is no more than a reason to look
into the registry sooner than by the clock.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Literal, NamedTuple, Protocol

import psycopg
import structlog
from sqlalchemy import make_url

Word = Literal["waits", "stop", "ended"]

_WORDS: tuple[Word, ...] = ("waits", "stop", "ended")

_CHANNEL = "lts_jobs"
_AGAIN_S = 1.0
"""Until a lost connection is tried again, and the most that an end of the listener takes."""

_log = structlog.get_logger(__name__)


class Message(NamedTuple):
    """What happened to which job."""

    word: Word
    job_id: str


Listener = Callable[[Message], None]

Listening = AbstractContextManager[None]


class Bus(Protocol):
    """Tells every process of a service, this one too."""

    def send(self, *messages: Message) -> None:
        """Tell all; what cannot be told now is dropped."""
        ...

    def listening(self, listener: Listener) -> Listening:
        """Call back for every message while the block runs, from any thread."""
        ...

    def close(self) -> None: ...


class LocalBus:
    """Within one process."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()

    def send(self, *messages: Message) -> None:
        with self._lock:
            listeners = tuple(self._listeners)
        for message in messages:
            for listener in listeners:
                listener(message)

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        with self._lock:
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)

    def close(self) -> None:
        pass


class PostgresBus:
    """Between all processes that share a database, by LISTEN and NOTIFY."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql").render_as_string(False)
        self._local = LocalBus()
        self._sending = threading.Lock()
        self._sender: psycopg.Connection | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="bus", daemon=True)
        self._thread.start()

    def send(self, *messages: Message) -> None:
        for attempt in range(2):  # the second on a new connection
            try:
                with self._sending:
                    self._send(messages)
                return
            except psycopg.Error as error:
                self._drop_sender()
                if attempt:
                    _log.warning("message lost", kind=type(error).__name__)

    def listening(self, listener: Listener) -> Listening:
        return self._local.listening(listener)

    def close(self) -> None:
        self._closed.set()
        self._thread.join(2 * _AGAIN_S)
        self._drop_sender()

    def _send(self, messages: tuple[Message, ...]) -> None:
        if self._sender is None:
            self._sender = self._connect()
        with self._sender.cursor() as cursor:
            said = [(_CHANNEL, f"{word} {job_id}") for word, job_id in messages]
            cursor.executemany("select pg_notify(%s, %s)", said)

    def _drop_sender(self) -> None:
        with self._sending:
            if self._sender is not None:
                with suppress(psycopg.Error):
                    self._sender.close()
            self._sender = None

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self._url, autocommit=True, connect_timeout=3, tcp_user_timeout=5000)

    def _listen(self) -> None:
        """Hear and pass on until the bus is closed, over as many connections as it takes."""
        while not self._closed.is_set():
            try:
                with self._connect() as connection:
                    connection.execute(f"listen {_CHANNEL}")
                    while not self._closed.is_set():
                        for heard in connection.notifies(timeout=_AGAIN_S):
                            self._hear(heard.payload)
            except psycopg.Error:
                self._closed.wait(_AGAIN_S)

    def _hear(self, payload: str) -> None:
        word, _, job_id = payload.partition(" ")
        for known in _WORDS:
            if word == known:
                self._local.send(Message(known, job_id))


def open_bus(url: str) -> Bus:
    """The bus of a service whose database this is."""
    return LocalBus() if url.startswith("sqlite") else PostgresBus(url)
