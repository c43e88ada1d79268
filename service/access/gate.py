"""The gate: from a request's headers to its caller, or the reason to refuse it."""

import hashlib
import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Self

import structlog

from service.access.caller import ANYONE, Caller
from service.access.keys import Keys, is_key, named
from service.access.rates import Rates
from service.access.sites import check_host, check_origin, is_loopback
from service.access.tokens import Tokens
from service.errors import TooManyKeys, TooManyRequests, Unauthorized
from service.settings import Settings

KEY_HEADER = "X-API-Key"

_REMEMBERED = 10_000

_log = structlog.get_logger(__name__)


class Gate:
    """Asks for a key once there is one, or a provider of tokens; else looks where a page is from.

    Methods block.
    """

    def __init__(self, settings: Settings, keys: Keys, tokens: Tokens | None) -> None:
        self._settings, self.keys, self._tokens = settings, keys, tokens
        self._failures = Rates(settings.failed_keys_per_minute)
        self._valid_once: OrderedDict[bytes, None] = OrderedDict()
        self._counting = threading.Lock()

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Raises `Unavailable` where the database cannot be reached."""
        tokens = None
        if settings.oidc_issuer is not None and settings.oidc_audience is not None:
            tokens = Tokens(settings.oidc_issuer, settings.oidc_audience, settings.oidc_scope_claim)
        return cls(settings, Keys(settings.registry_url), tokens)

    def close(self) -> None:
        self.keys.close()

    def admit(self, headers: Mapping[str, str], address: str, by_memory: bool = False) -> Caller:
        """Who calls. `by_memory`: while the database is away, by what it said last.

        Raises `Unauthorized`, `ForeignHost`, `ForeignOrigin`, `Unavailable`, and `TooManyKeys` for
        an address that has guessed at a key too often; whoever has called with a valid key before
        is not held up by that.
        """
        if not (self._must_ask or self.keys.exist(by_memory)):
            check_host(headers.get("host", ""), self._settings.allowed_hosts)
            if "origin" in headers:
                check_origin(
                    headers["origin"], headers.get("host", ""), self._settings.allowed_origins
                )
            return ANYONE
        given = _given(headers)
        if given is None:
            raise Unauthorized("Expected a key in Authorization (Bearer) or X-API-Key, found none.")
        return self._caller(given, address, by_memory)

    @property
    def _must_ask(self) -> bool:
        """Whatever the database says: a copy of it without keys opens nothing."""
        settings = self._settings
        is_open = settings.allow_unauthenticated or is_loopback(settings.exposed)
        return self._tokens is not None or not is_open

    def _caller(self, given: str, address: str, by_memory: bool) -> Caller:
        digest = hashlib.sha256(given.encode()).digest()
        # A signature cannot be guessed; of keys, each one's secret has guesses of its own, so that
        # one wrong key in a cron job keeps nobody else behind the same proxy out.
        guess = f"{_neighbourhood(address)} {named(given)}"
        with self._guessing():
            if is_key(given) and digest not in self._valid_once:
                self._failures.check(guess)
        caller = self._find(given, by_memory)
        with self._guessing():
            if caller is None:
                self._valid_once.pop(digest, None)
                _log.warning("key refused", address=address, key=named(given) or None)
                self._failures.take(guess)
                raise Unauthorized("Expected a valid key, found another.")
            self._valid_once[digest] = None
            self._valid_once.move_to_end(digest)
            if len(self._valid_once) > _REMEMBERED:
                self._valid_once.popitem(last=False)
        return caller

    @contextmanager
    def _guessing(self) -> Iterator[None]:
        """One at a time; raises `TooManyKeys` where there were too many guesses."""
        try:
            with self._counting:
                yield
        except TooManyRequests as error:
            allowed = self._settings.failed_keys_per_minute
            raise TooManyKeys(
                f"Expected at most {allowed} guesses at a key a minute, found more.",
                retry_after_s=error.retry_after_s,
            ) from error

    def _find(self, given: str, by_memory: bool) -> Caller | None:
        if is_key(given):
            key = self.keys.find(given, by_memory)
            return None if key is None else key.caller
        return None if self._tokens is None else self._tokens.find(given)


def brings_token(headers: Mapping[str, str]) -> bool:
    """Whether the look at who calls may wait for the provider of tokens."""
    given = _given(headers)
    return given is not None and not is_key(given)


def _given(headers: Mapping[str, str]) -> str | None:
    """The key or token of a request; the header made for keys comes first."""
    if given := headers.get(KEY_HEADER.lower(), "").strip():
        return given
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() or None if scheme.lower() == "bearer" else None


def _neighbourhood(address: str) -> str:
    """An IPv6 address' /64, all of which one host may have; any other as it is."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped or ipaddress.ip_network((int(found), 64), strict=False))
    return address
