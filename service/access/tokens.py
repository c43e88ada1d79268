"""Bearer tokens of an OpenID Connect provider: signed by it, for this service, and not expired."""

import hashlib
import json
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

_ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
"""With a public key only: one that both sides know would let whoever can check a token make one."""

_REQUIRED = ("exp", "iss", "aud", "sub")
_LEEWAY_S = 30

_KEYS_LIVE_S = 3600.0
_ASK_AGAIN_S = 30.0
"""At most so often the provider is asked for a key that it may have added: anyone may name one."""

_TIMEOUT_S = (3.05, 5)
_MAX_BYTES = 1024 * 1024

_SCOPE_PREFIX = "lts:"

_log = structlog.get_logger(__name__)


class Tokens:
    """Checks tokens with the keys that the provider publishes; methods block."""

    def __init__(self, issuer: str, audience: str, scope_claim: str) -> None:
        self._issuer, self._audience, self._scope_claim = issuer, audience, scope_claim
        self._reading = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = self._read_at = float("-inf")

    def find(self, token: str) -> Caller | None:
        """Who calls with a valid token, None for any other.

        Raises `Unavailable` where the provider's keys cannot be read.
        """
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
                options={"require": list(_REQUIRED)},
            )
        except jwt.InvalidTokenError:
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

    def _key(self, key_id: object) -> jwt.PyJWK | None:
        """The provider's key of this id; without an id its only one.

        While the provider is away its last keys count.
        """
        with self._reading:
            now = time.monotonic()
            is_wanted = self._of(key_id) is None or now - self._read_at > _KEYS_LIVE_S
            if is_wanted and now - self._asked_at > _ASK_AGAIN_S:
                self._asked_at = now
                self._read()
            found = self._of(key_id)
            if found is None and self._read_at < self._asked_at:
                raise Unavailable("Expected the OpenID Connect provider's keys, found none.")
            return found

    def _read(self) -> None:
        try:
            self._keys = self._published()
        except (
            requests.RequestException,
            jwt.PyJWTError,
            ValueError,
            KeyError,
            TypeError,
        ) as error:
            _log.warning("no keys of the OpenID Connect provider", place=place_of(error))
        else:
            self._read_at = self._asked_at

    def _of(self, key_id: object) -> jwt.PyJWK | None:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id) if isinstance(key_id, str) else None

    def _published(self) -> dict[str, jwt.PyJWK]:
        described = _json(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if described.get("issuer") != self._issuer:
            raise ValueError("another issuer")
        keys = jwt.PyJWKSet.from_dict(_json(described["jwks_uri"])).keys
        return {key.key_id or "": key for key in keys if key.public_key_use in (None, "sig")}


def _json(address: str) -> dict[str, Any]:
    """A JSON object of the provider. Raises `requests.RequestException` or `ValueError`."""
    if not address.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise ValueError("no address that is safe")
    with requests.get(address, timeout=_TIMEOUT_S, allow_redirects=False, stream=True) as answer:
        answer.raise_for_status()
        body = answer.raw.read(_MAX_BYTES, decode_content=True)
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found
