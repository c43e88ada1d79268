"""API keys: made once, shown once, kept as hashes in the database that all processes share.

A key is `lts_ID_SECRET`; the id is no secret, and names the key in lists and logs. The secret has
256 random bits, so its plain SHA-256 cannot be turned back; a slow hash, which protects words that
people think of, would only slow down each request.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Collection
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, select

from service.access.caller import SCOPES, Caller, Scope
from service.database import Database
from service.errors import Unavailable

PREFIX = "lts_"
"""By which a key is told from a token, and by which scanners find one that was committed."""

FRESH_S = 5.0
"""What the database said of a key is believed so long, which a revoked key lives on."""

_KEY = re.compile(rf"{PREFIX}([0-9a-f]{{12}})_([A-Za-z0-9_-]{{43}})")

_REMEMBERED = 1024
"""Keys that are remembered at once."""

_META = MetaData()

_KEYS = Table(
    "lts_keys",
    _META,
    Column("id", String(12), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("owner", String(12), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("scopes", String(32), nullable=False),
    Column("rate_per_minute", Integer),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
)


class Key(BaseModel):
    """A key as the database has it. Times are milliseconds since 1970, UTC.

    `owner` is the id of the first key of whoever holds it, which is this one's own until it is
    replaced.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    name: str
    owner: str
    secret_sha256: str
    scopes: str
    rate_per_minute: int | None
    created_ms: int
    expires_ms: int | None
    revoked_ms: int | None

    @property
    def created_at(self) -> datetime:
        return _moment(self.created_ms)

    @property
    def expires_at(self) -> datetime | None:
        return None if self.expires_ms is None else _moment(self.expires_ms)

    @property
    def is_revoked(self) -> bool:
        return self.revoked_ms is not None

    @property
    def is_valid(self) -> bool:
        """Whether it opens anything now."""
        has_expired = self.expires_ms is not None and self.expires_ms <= _now_ms()
        return not (self.is_revoked or has_expired)

    @property
    def caller(self) -> Caller:
        """Who calls with it."""
        allowed = frozenset(scope for scope in SCOPES if scope in self.scopes.split())
        return Caller(f"key:{self.owner}", allowed, f"key:{self.id}", self.rate_per_minute)


class Keys:
    """All keys of a service. Methods block, and raise `Unavailable` or `StorageFull`."""

    def __init__(self, url: str) -> None:
        """Connect, and make the table where it is missing."""
        self._database = Database(url)
        with self._database.writing(exclusive=True) as connection:
            self._database.make(connection, _META)
        self._any_at = float("-inf")
        self._any = False
        self._known: dict[str, tuple[float, Key]] = {}

    def close(self) -> None:
        self._database.close()

    def create(
        self,
        name: str,
        scopes: Collection[Scope],
        rate_per_minute: int | None = None,
        lives_s: float | None = None,
        owner: str | None = None,
    ) -> str:
        """Make a key and give its text, which is nowhere else; by default of a new owner."""
        key_id, secret, now_ms = secrets.token_hex(6), secrets.token_urlsafe(32), _now_ms()
        key = Key(
            id=key_id,
            name=name,
            owner=owner or key_id,
            secret_sha256=_hash(secret),
            scopes=" ".join(scope for scope in SCOPES if scope in scopes),
            rate_per_minute=rate_per_minute,
            created_ms=now_ms,
            expires_ms=None if lives_s is None else now_ms + int(lives_s * 1000),
            revoked_ms=None,
        )
        with self._database.writing() as connection:
            connection.execute(_KEYS.insert(), key.model_dump())
        return f"{PREFIX}{key_id}_{secret}"

    def replace(self, key_id: str, lives_s: float | None = None) -> str | None:
        """Another key for the same owner, who sees with it what the first one made.

        It lives as long as the first one was to live, unless it is said. The first one stays as it
        is, until it is revoked. None where there is no such key.
        """
        known = next((key for key in self.all() if key.id == key_id), None)
        if known is None:
            return None
        if lives_s is None and known.expires_ms is not None:
            lives_s = (known.expires_ms - known.created_ms) / 1000
        return self.create(
            known.name, known.caller.scopes, known.rate_per_minute, lives_s, known.owner
        )

    def all(self) -> list[Key]:
        """Every key that was ever made, the oldest first."""
        query = select(_KEYS).order_by(_KEYS.c.created_ms, _KEYS.c.id)
        with self._database.reading() as connection:
            return [Key.model_validate(dict(row._mapping)) for row in connection.execute(query)]

    def revoke(self, key_id: str) -> bool:
        """Let a key open nothing from now on; false where there is none that does."""
        valid = (_KEYS.c.id == key_id) & _KEYS.c.revoked_ms.is_(None)
        with self._database.writing() as connection:
            revoked = connection.execute(_KEYS.update().where(valid).values(revoked_ms=_now_ms()))
            return revoked.rowcount > 0

    def exist(self, by_memory: bool = False) -> bool:
        """Whether a key was ever made: from then on callers need one, also once all are revoked.

        `by_memory`: while the database is away, what it said last.
        """
        if not self._any and time.monotonic() - self._any_at >= FRESH_S:
            try:
                with self._database.reading() as connection:
                    first = connection.execute(select(_KEYS.c.id).limit(1)).first()
            except Unavailable:
                if by_memory:
                    return self._any
                raise
            self._any, self._any_at = first is not None, time.monotonic()
        return self._any

    def find(self, text: str, by_memory: bool = False) -> Key | None:
        """The valid key of this text, None for any other; secrets are compared in constant time."""
        parts = _KEY.fullmatch(text)
        key_id, secret = parts.groups() if parts else ("", "")
        key = self._read(key_id, by_memory)
        expected = _hash("") if key is None else key.secret_sha256
        is_right = hmac.compare_digest(_hash(secret), expected)
        return key if is_right and key is not None and key.is_valid else None

    def _read(self, key_id: str, by_memory: bool) -> Key | None:
        read_at, key = self._known.get(key_id, (0.0, None))
        if key is not None and time.monotonic() - read_at < FRESH_S:
            return key
        try:
            with self._database.reading() as connection:
                row = connection.execute(select(_KEYS).where(_KEYS.c.id == key_id)).first()
        except Unavailable:
            if by_memory and key is not None:
                return key
            raise
        self._known.pop(key_id, None)
        if row is None:
            return None
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        key = Key.model_validate(dict(row._mapping))
        self._known[key_id] = (time.monotonic(), key)
        return key


def is_key(text: str) -> bool:
    """Whether a text calls itself a key; any other is a token."""
    return text.startswith(PREFIX)


def named(text: str) -> str:
    """The id that a text names, empty for what has no form of a key."""
    parts = _KEY.fullmatch(text)
    return parts[1] if parts else ""


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _now_ms() -> int:
    return int(time.time() * 1000)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
