"""Pages of other sites, kept from a service that asks nobody for a key.

A browser on the same network sends what any page asks it to. A page of another site names itself in
`Origin`; one whose own name was made to point at this service (DNS rebinding) addresses it by that
name. An address in digits cannot be made to point elsewhere.
"""

import ipaddress
import re
from collections.abc import Collection

from service.errors import ForeignHost, ForeignOrigin

_LOCAL = ("localhost",)

_PORTS = {"http": ":80", "https": ":443"}
"""What browsers leave out."""

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")


def check_host(host: str, allowed: Collection[str]) -> None:
    """Raise `ForeignHost` unless `Host` is an IP address, localhost, or one of these names."""
    name = _name(host)
    if name in _LOCAL or name in allowed or _is_address(name):
        return
    raise ForeignHost("Expected localhost, an IP address, or a name of LTS_ALLOWED_HOSTS.")


def check_origin(origin: str, host: str, allowed: Collection[str]) -> None:
    """Raise `ForeignOrigin` unless a page's `Origin` is this service's own, or one of these.

    The scheme does not count: a proxy may speak HTTPS to the browser and HTTP to the service. It
    may also name the port that the scheme has anyway.
    """
    scheme, _, site = origin.lower().partition("://")
    own, port = host.lower(), _PORTS.get(scheme)
    if origin.lower() in allowed:
        return
    is_site = port is not None and _HOST.fullmatch(site) is not None
    if is_site and site.removesuffix(port or "") == own.removesuffix(port or ""):
        return
    raise ForeignOrigin("Expected a page of this service, or an origin of LTS_ALLOWED_ORIGINS.")


def _name(host: str) -> str:
    """Without the port; empty for what is no host."""
    parts = _HOST.fullmatch(host)
    return "" if parts is None else (parts[1] or parts[2]).lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    if address in _LOCAL:
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False  # any other name may resolve to anything
