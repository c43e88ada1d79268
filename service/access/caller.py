"""Who asks, and what that allows."""

from dataclasses import dataclass
from typing import Literal, get_args

Scope = Literal["read", "write", "admin"]

SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Caller:
    """A key's or a token's holder.

    `owner` is written beside what the caller makes, None where nobody is asked who calls; `key` is
    what it came with, for the log; `rate_per_minute` is the key's own, None for the settings'.
    """

    owner: str | None
    scopes: frozenset[Scope]
    key: str | None = None
    rate_per_minute: int | None = None

    def may(self, scope: Scope) -> bool:
        """Whether a request that needs this scope is allowed; `admin` holds the others."""
        return scope in self.scopes or self.sees_all

    @property
    def sees_all(self) -> bool:
        """Whether what others have made is shown, too."""
        return "admin" in self.scopes

    def sees(self, owner: str | None) -> bool:
        """Whether what this owner has made is shown."""
        return self.sees_all or (owner is not None and owner == self.owner)


ANYONE = Caller(None, frozenset({"admin"}))
"""Whoever calls where nobody is asked."""
