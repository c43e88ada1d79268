"""Pages of other sites, kept from a service that asks nobody for a key.

A browser on the same network sends what any page asks it to. A page of another site names itself in
`Origin`; one whose own name was made to point at this service (DNS rebinding) addresses it by that
name. An address in digits cannot be made to point elsewhere.
"""

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from service.errors import ForeignHost, ForeignOrigin

_LOCAL = ("localhost",)

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")


def check_host(host: str, allowed: Collection[str]) -> None:
    """Raise `ForeignHost` unless `Host` is an IP address, localhost, or one of these names."""
    name = _name(host)
    if name in _LOCAL or name in {item.lower() for item in allowed} or _is_address(name):
        return
    raise ForeignHost("Expected localhost, an IP address, or a name of LTS_ALLOWED_HOSTS.")


def check_origin(origin: str, host: str, allowed: Collection[str]) -> None:
    """Raise `ForeignOrigin` unless a page's `Origin` is this service's own, or one of these.

    The scheme does not count: a proxy may speak HTTPS to the browser and HTTP to the service.
    """
    if origin in allowed:
        return
    site = urlsplit(origin)
    if site.scheme in ("http", "https") and site.netloc.lower() == host.lower():
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
