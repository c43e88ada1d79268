"""The gate: from a request's headers to its caller, or the reason to refuse it."""

import hashlib
import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Self

from service.access.caller import ANYONE, Caller
from service.access.keys import PREFIX, Keys
from service.access.rates import Rates
from service.access.sites import check_host, check_origin
from service.access.tokens import Tokens
from service.errors import Unauthorized
from service.settings import Settings

KEY_HEADER = "X-API-Key"

_REMEMBERED = 10_000


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

    @property
    def asks(self) -> bool:
        """Whether callers need a key or a token."""
        return self._tokens is not None or self.keys.exist()

    def admit(self, headers: Mapping[str, str], address: str) -> Caller:
        """Who calls.

        Raises `Unauthorized`, `ForeignHost`, `ForeignOrigin`, and `TooManyRequests` for an address
        that has guessed too often; whoever has called with a valid key before is not held up by it.
        """
        if not self.asks:
            check_host(headers.get("host", ""), self._settings.allowed_hosts)
            if "origin" in headers:
                check_origin(
                    headers["origin"], headers.get("host", ""), self._settings.allowed_origins
                )
            return ANYONE
        given = _given(headers)
        if given is None:
            raise Unauthorized("Expected a key in Authorization (Bearer) or X-API-Key, found none.")
        return self._caller(given, _neighbourhood(address))

    def _caller(self, given: str, address: str) -> Caller:
        digest = hashlib.sha256(given.encode()).digest()
        with self._counting:
            if digest not in self._valid_once:
                self._failures.check(address)
        caller = self._find(given)
        with self._counting:
            if caller is None:
                self._valid_once.pop(digest, None)
                self._failures.take(address)
                raise Unauthorized("Expected a valid key, found another.")
            self._valid_once[digest] = None
            self._valid_once.move_to_end(digest)
            if len(self._valid_once) > _REMEMBERED:
                self._valid_once.popitem(last=False)
        return caller

    def _find(self, given: str) -> Caller | None:
        if given.startswith(PREFIX):
            key = self.keys.find(given)
            return None if key is None else key.caller
        return None if self._tokens is None else self._tokens.find(given)


def _given(headers: Mapping[str, str]) -> str | None:
    """The key or token of a request; the header made for keys comes first."""
    if (given := headers.get(KEY_HEADER.lower())) is not None:
        return given
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() or None if scheme.lower() == "bearer" else None


def _neighbourhood(address: str) -> str:
    """An IPv6 address' /64, all of which one host may have; any other as it is."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False))
