"""HTTP below the application: heads are bounded in bytes and time, and refusals are problems.

The server itself takes a head of any length, at a cost that grows with its square, and waits for it
for ever: one client with an endless header kept everyone else from an answer for 12 s.
"""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from service.api.problems import MEDIA_TYPE, problem_of
from service.errors import HeadersTooLarge, MalformedRequest, ServiceError

HEAD_BYTES = 64 * 1024
"""Of request line and headers, and of the framing and trailers of a chunked body."""

FRAMING_PER_BODY_BYTE = 16
"""A chunk of one byte takes five more; that many times over is nobody's honest body."""

HEAD_S = 30
"""From the connection, or the first byte of a further request, to the end of its head."""

LINGER_S = 10
"""For a client that goes on sending after its answer: closed at once, it might never read that."""

FAREWELL_S = 1
"""For a client of TLS to say that it saw the end; an idle one held up the service's for 30 s."""

_log = structlog.get_logger(__name__)


class _Lingering:
    """A connection's transport that closes as the protocol says; the rest is as it was."""

    def __init__(
        self,
        transport: asyncio.Transport,
        close: Callable[[], None],
        is_closing: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self.close = close
        self.is_closing = is_closing

    def let_go(self) -> None:
        """Forget the protocol, which holds this: a circle for each connection fills the memory."""
        self.close = self._transport.close
        self.is_closing = self._transport.is_closing

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the transport has
        return getattr(self._transport, name)


class BoundedProtocol(HttpToolsProtocol):
    """Counts what arrives beside the bodies, and closes connections that never send a request."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._beside_body = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._body_arrives = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._real: asyncio.Transport = transport  # type: ignore[assignment]  # as uvicorn says it
        self._lingering = _Lingering(self._real, self._close_answered, self._is_closing)
        super().connection_made(self._lingering)  # type: ignore[arg-type]  # all of one that is called
        self._await_head()

    def shutdown(self) -> None:
        if self._linger_timer is not None:
            self._real.close()
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(FAREWELL_S, self._part)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        super().connection_lost(exc)
        self._lingering.let_go()

    def data_received(self, data: bytes) -> None:
        if self._linger_timer is not None:
            return  # the rest of a body whose request is answered
        self._beside_body += len(data)
        super().data_received(data)
        if self._beside_body > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HeadersTooLarge(f"Expected at most {HEAD_BYTES} bytes, found more."))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._beside_body = 0  # what came with it in one piece is forgiven
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._beside_body = 0
        self._body_arrives = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._beside_body -= len(body) * (1 + FRAMING_PER_BODY_BYTE)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._body_arrives = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What the server calls for anything that its parser does not take."""
        self._refuse(MalformedRequest(f"Expected an HTTP/1.1 request. {msg}"))

    def _refuse(self, error: ServiceError) -> None:
        request_id = uuid.uuid4().hex
        body = problem_of(error, request_id).model_dump_json().encode()
        headers = (
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[int(error.status)] + headers.encode() + body)
        self.transport.close()
        _log.info("request refused", code=error.code, request_id=request_id)

    def _close_answered(self) -> None:
        """Close; where a body still arrives say so, and read on for a while without keeping it."""
        if self._is_closing():
            return
        if not (self._body_arrives and self._real.can_write_eof()):
            self._real.close()
            return
        self._linger_timer = self.loop.call_later(LINGER_S, self._real.close)
        self._real.write_eof()
        self.flow.resume_reading()

    def _is_closing(self) -> bool:
        return self._linger_timer is not None or self._real.is_closing()

    def _part(self) -> None:
        """Close without a farewell, where nothing is left to send."""
        if not self._real.get_write_buffer_size():
            self._real.abort()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self._close)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
