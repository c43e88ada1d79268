"""Bearer tokens of an OpenID Connect provider: signed by it, for this service, and not expired."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from typing import Any

import jwt
import requests
import structlog

from service.access.caller import SCOPES, Caller
from service.errors import Unavailable
from service.logs import place_of
from service.settings import SAFE_ADDRESS

_ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
"""With a public key only: one that both sides know would let whoever can check a token make one."""

_REQUIRED = ("exp", "iss", "aud", "sub")
_LEEWAY_S = 30

_KEYS_LIVE_S = 3600.0
_ASK_AGAIN_S = 30.0
"""At most so often the provider is asked for a key that it may have added: anyone may name one."""

_WAIT_S = 5
"""For keys that are on their way."""

_TIMEOUT_S = (3.05, 5)
_MAX_BYTES = 1024 * 1024

_SCOPE_PREFIX = "lts:"

_log = structlog.get_logger(__name__)


class Tokens:
    """Checks tokens with the keys that the provider publishes; blocks for seconds at most."""

    def __init__(self, issuer: str, audience: str, scope_claim: str) -> None:
        self._issuer, self._audience, self._scope_claim = issuer, audience, scope_claim
        self._lock = threading.Lock()
        self._keys: dict[str, dict[str, Any]] = {}
        self._asked_at = self._read_at = float("-inf")
        self._asking: threading.Event | None = None

    def find(self, token: str) -> Caller | None:
        """Who calls with a valid token, None for any other.

        Raises `Unavailable` where the provider's keys cannot be read.
        """
        try:
            header = jwt.get_unverified_header(token)
            published = self._key(header.get("kid"))
            if published is None:
                return None
            claims = jwt.decode(
                token,
                _usable(published, header.get("alg")),
                algorithms=_ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
                options={"require": list(_REQUIRED)},
            )
        except jwt.PyJWTError:
            return None
        return self._caller(claims)

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        """Subjects may be anything, names of people among it: the owner is their hash."""
        listed = claims.get(self._scope_claim, ())
        names = listed.split() if isinstance(listed, str) else listed
        allowed = names if isinstance(names, list) else []
        subject = f"{claims['iss']}\0{claims['sub']}".encode()
        owner = f"oidc:{hashlib.sha256(subject).hexdigest()[:32]}"
        scopes = frozenset(scope for scope in SCOPES if f"{_SCOPE_PREFIX}{scope}" in allowed)
        return Caller(owner, scopes, key=owner)

    def _key(self, key_id: object) -> dict[str, Any] | None:
        """The provider's key of this id; without an id its only one.

        The keys that there are count until newer ones have come, also while the provider is away.
        """
        with self._lock:
            found, now = self._of(key_id), time.monotonic()
            is_wanted = found is None or now - self._read_at > _KEYS_LIVE_S
            if is_wanted and self._asking is None and now - self._asked_at > _ASK_AGAIN_S:
                self._asked_at, self._asking = now, threading.Event()
                threading.Thread(target=self._ask, args=(self._asking,), daemon=True).start()
            asking = self._asking
        if found is None and asking is not None:
            asking.wait(_WAIT_S)
        with self._lock:
            found = self._of(key_id)
            if found is None and self._read_at < self._asked_at:
                raise Unavailable("Expected the OpenID Connect provider's keys, found none.")
            return found

    def _of(self, key_id: object) -> dict[str, Any] | None:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id) if isinstance(key_id, str) else None

    def _ask(self, asking: threading.Event) -> None:
        """In a thread of its own: a provider may answer byte by byte, and nobody waits for that."""
        keys = None
        try:
            keys = self._published()
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            _log.warning("no keys of the OpenID Connect provider", place=place_of(error))
        with self._lock:
            if keys is not None:
                self._keys, self._read_at = keys, self._asked_at
            self._asking = None
        asking.set()

    def _published(self) -> dict[str, dict[str, Any]]:
        described = _json(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if described.get("issuer") != self._issuer:
            raise ValueError("another issuer")
        keys = _json(described["jwks_uri"])["keys"]
        return {str(key.get("kid", "")): key for key in keys if key.get("use", "sig") == "sig"}


def _usable(published: dict[str, Any], algorithm: object) -> jwt.PyJWK:
    """A key with its own algorithm; with the token's, where it names none and that is of its kind.

    Raises `jwt.PyJWTError` for what is no public key.
    """
    if "alg" in published:
        return jwt.PyJWK(published)
    if algorithm not in _ALGORITHMS:
        raise jwt.InvalidAlgorithmError
    return jwt.PyJWK(published, algorithm=str(algorithm))


def _json(address: str) -> dict[str, Any]:
    """A JSON object of the provider. Raises `requests.RequestException` or `ValueError`."""
    if not re.match(SAFE_ADDRESS, address):
        raise ValueError("no address that is safe")
    with requests.get(address, timeout=_TIMEOUT_S, allow_redirects=False, stream=True) as answer:
        answer.raise_for_status()
        body = answer.raw.read(_MAX_BYTES, decode_content=True)
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found
