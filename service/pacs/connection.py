"""Requests to one DICOMweb node: nothing leaves its host, and each of them ends.

Redirects are not followed, so credentials stay where they belong. The environment is not asked for
a proxy, for credentials (.netrc) or for authorities: most PACS lie in the hospital's own network,
and patient data must not take the way that was meant for downloads. A node that is reached through
a proxy names it in the file.

Who should stop does so within about a second, unless the operating system looks up a host's name.
"""

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Protocol, Self

import requests
from python_multipart.multipart import parse_options_header
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import ConnectionPool, HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from service.errors import OriginInvalid, OriginRefused, OriginUnreachable
from service.pacs.nodes import DicomwebNode
from service.pacs.retry import TryAgain
from service.pacs.watch import Watch
from service.settings import Settings
from service.stopping import StopSignal

_CHUNK_BYTES = 16 * 1024
"""So much of an answer is lost, at most, where its connection breaks."""

_CONNECT_S = 1.0
"""Of one try to connect, so that who waits can stop; a lost packet is sent again after a second."""

_REFUSALS = (401, 403, 407)
_PASSING = (408, 429)


class Cut(Exception):
    """A body ended before it was whole, or was ended since it crawled."""

    def __init__(self, too_slow: bool) -> None:
        super().__init__()
        self.too_slow = too_slow


class Body(Protocol):
    """A request's body whose length is known, and that can be sent again."""

    @property
    def media_type(self) -> str: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[bytes]: ...


class Answer:
    """Status and headers, and a body that is read as it comes."""

    def __init__(self, response: requests.Response, watch: Watch, stop: StopSignal) -> None:
        self._response, self._watch, self._stop = response, watch, stop
        self.status = response.status_code

    @property
    def media_type(self) -> str:
        """In lower case, without parameters; empty where there is none."""
        return parse_options_header(self._header("Content-Type"))[0].decode("latin-1")

    @property
    def boundary(self) -> bytes:
        """Of a multipart body; empty where there is none."""
        return parse_options_header(self._header("Content-Type"))[1].get(b"boundary", b"")

    @property
    def ends_by_itself(self) -> bool:
        """Whether its end can be told from a broken connection."""
        return bool(self._header("Content-Length") or self._header("Transfer-Encoding"))

    @property
    def warns(self) -> bool:
        """Whether it says that more could be said (PS3.18 section 8.3.4.4)."""
        return "Warning" in self._response.headers

    @property
    def refuses(self) -> bool:
        """Whether the service is not let in."""
        return self.status in _REFUSALS

    def check(self) -> None:
        """Raise unless the status is a success: `OriginRefused`, `OriginInvalid`, `TryAgain`."""
        if 200 <= self.status < 300:
            return
        if self.refuses:
            raise OriginRefused(f"Expected to be let in, found status {self.status}.")
        self.check_passing()
        raise OriginInvalid(f"Expected a successful answer, found status {self.status}.")

    def check_passing(self) -> None:
        """Raise `TryAgain` for a status that may be another one later."""
        if self.status in _PASSING or self.status >= 500:
            error = OriginUnreachable(f"Expected an answer, found status {self.status}.")
            raise TryAgain(error, str(self.status), _seconds(self._header("Retry-After")))

    def chunks(self) -> Iterator[bytes]:
        """The body. Raises `Cut`, or the reason to stop."""
        try:
            for chunk in self._response.iter_content(_CHUNK_BYTES):
                self._watch.moved(len(chunk))
                self._stop.check()
                yield chunk
        except (OSError, HTTPError):
            self._stop.check()
            raise Cut(self._watch.too_slow) from None
        self._stop.check()
        if self._watch.too_slow:  # a body without a length ends with its connection
            raise Cut(too_slow=True)

    def body(self, max_bytes: int) -> bytes:
        """The whole body. Raises `Cut`, or `OriginInvalid` for one that is larger."""
        whole = bytearray()
        for chunk in self.chunks():
            whole += chunk
            if len(whole) > max_bytes:
                raise OriginInvalid(f"Expected an answer of at most {max_bytes} bytes, found more.")
        return bytes(whole)

    def _header(self, name: str) -> str:
        return str(self._response.headers.get(name, ""))


class Client:
    """Talks with one node while its `with` block lasts; the credentials are those of its start."""

    def __init__(self, node: DicomwebNode, settings: Settings, stop: StopSignal) -> None:
        self._node, self._stop = node, stop
        self._timeout_s = settings.pacs_timeout_s
        self._watch = Watch(stop, settings)
        self._session = requests.Session()
        self._session.trust_env = False
        if node.ca_file is not None:
            self._session.verify = str(node.ca_file)
        if node.proxy is not None:
            self._session.proxies = {"http": node.proxy, "https": node.proxy}
        self._adapter = _Adapter(self._watch, stop, settings.pacs_timeout_s)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._adapter)

    def __enter__(self) -> Self:
        """Raises `TryAgain` where a secret's file cannot be read: it may be about to be changed."""
        try:
            authorization = self._node.authorization()
        except (OSError, ValueError):
            failure = OriginRefused("Expected credentials that can be read, found none.")
            raise TryAgain(failure, "credentials") from None
        self._session.headers.clear()
        # Compression would gain little on pixels, and hide how much an answer brings.
        self._session.headers.update({"User-Agent": "lts", "Accept-Encoding": "identity"})
        if authorization is not None:
            self._session.headers["Authorization"] = authorization
        self._watch.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session.close()
        self._watch.__exit__(kind, error, trace)

    @contextmanager
    def ask(
        self,
        path: str,
        accept: str,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> Iterator[Answer]:
        """GET, or POST where there is a body.

        Raises `TryAgain` where no answer comes, or the reason to stop.
        """
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = body.media_type
        self._stop.check()
        self._watch.begin()
        try:
            response = self._session.request(
                "GET" if body is None else "POST",
                self._node.url + path,
                params=query,
                headers=headers,
                data=None if body is None else _Sent(body, self._watch),
                stream=True,
                allow_redirects=False,
                timeout=self._timeout_s,
            )
        except (OSError, HTTPError) as error:
            self._rest()
            self._stop.check()
            failure = OriginUnreachable(f"Expected an answer, found {self._fault(error)}.")
            raise TryAgain(failure) from None
        try:
            self._stop.check()
            if self._watch.too_slow:  # headers that are cut look like headers that are few
                raise TryAgain(OriginUnreachable("Expected an answer, found none in time."))
            self._watch.begin()
            yield Answer(response, self._watch, self._stop)
        finally:
            response.close()
            self._rest()

    def _rest(self) -> None:
        self._watch.rest()
        if self._adapter.is_closed:
            self._watch.let_go()

    def _fault(self, error: Exception) -> str:
        """In words of ours: a library's name the address, and with it the study."""
        if self._watch.too_slow or isinstance(error, requests.Timeout):
            return "none in time"
        if isinstance(error, requests.exceptions.SSLError):
            return "no secure connection"
        if isinstance(error, requests.exceptions.ProxyError):
            return "no way through the proxy"
        return "no connection"


class _Sent:
    """A body on its way, seen by the watch.

    Its length makes it be sent without chunked coding, which some servers do not take.
    """

    def __init__(self, body: Body, watch: Watch) -> None:
        self._body, self._watch = body, watch

    def __len__(self) -> int:
        return len(self._body)

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._body:
            yield chunk
            self._watch.moved(len(chunk))


class _Adapter(HTTPAdapter):
    """Connects in short tries, and shows each connection to the watch before it is used."""

    def __init__(self, watch: Watch, stop: StopSignal, timeout_s: float) -> None:
        self._watch, self._stop, self._timeout_s = watch, stop, timeout_s
        self._latest: HTTPConnection | None = None
        super().__init__(max_retries=0)

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: bool | str | None,
        proxies: Mapping[str, str] | None = None,
        cert: tuple[str, str] | str | None = None,
    ) -> ConnectionPool:
        pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
        kind = _WatchedTls if isinstance(pool, HTTPSConnectionPool) else _Watched
        if isinstance(pool, HTTPConnectionPool):
            pool.ConnectionCls = type(kind.__name__, (kind,), {"adapter": self})
        return pool

    def close(self) -> None:
        super().close()
        if self._latest is not None:  # which its pool would close when it is garbage
            self._latest.close()

    @property
    def is_closed(self) -> bool:
        """Whether the latest connection cannot be used for another request."""
        return self._latest is None or self._latest.sock is None

    def connect(
        self, connection: HTTPConnection, once: Callable[[], socket.socket]
    ) -> socket.socket:
        """Raises what `once` raises, after the time-out or when it should stop."""
        self._latest = connection
        give_up = time.monotonic() + self._timeout_s
        connection.timeout = min(_CONNECT_S, self._timeout_s)
        while True:
            try:
                connected = once()
            except NewConnectionError:  # refused, or no such host; the library's kind of time-out
                raise
            except ConnectTimeoutError:
                if self._stop.reason is not None or time.monotonic() >= give_up:
                    raise
            else:
                connected.settimeout(self._timeout_s)
                self._watch.hold(connected)
                return connected


class _Watched(HTTPConnection):
    adapter: _Adapter

    def _new_conn(self) -> socket.socket:
        return self.adapter.connect(self, super()._new_conn)


class _WatchedTls(HTTPSConnection):
    adapter: _Adapter

    def _new_conn(self) -> socket.socket:
        return self.adapter.connect(self, super()._new_conn)


def _seconds(retry_after: str) -> float:
    """What a Retry-After header asks for (RFC 9110 section 10.2.3); 0 where it cannot be read."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
