"""Names and origins that a service without keys answers to."""

import pytest

from service.access.sites import check_host, check_origin
from service.errors import ForeignHost, ForeignOrigin

NAMES = ("ct.hospital.example", "service")


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:8000", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000",
        "192.0.2.7:80", "[::1]:8000", "[2001:db8::7]", "ct.hospital.example:8443",
        "CT.Hospital.Example", "service:8000",
    ],
)  # fmt: skip
def test_hosts_that_are_answered(host: str) -> None:
    """Addresses in digits, localhost, and the names of the settings, with any port."""
    check_host(host, NAMES)


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "evil.example:8000", "localhost.evil.example", "evil-localhost",
        "127.0.0.1.evil.example", "ct.hospital.example.evil.example", "xct.hospital.example",
        "localhost@evil.example", "[::1].evil.example", "[::1", "evil.example/localhost",
    ],
)  # fmt: skip
def test_hosts_that_are_not(host: str) -> None:
    """Any other name may be one that was made to point here."""
    with pytest.raises(ForeignHost):
        check_host(host, NAMES)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("https://ct.hospital.example", "ct.hospital.example"),
        ("http://LocalHost:8000", "localhost:8000"),
        ("https://viewer.example", "127.0.0.1:8000"),
        ("https://Viewer.example", "127.0.0.1:8000"),
        ("https://ct.hospital.example", "ct.hospital.example:443"),
        ("http://127.0.0.1", "127.0.0.1:80"),
        ("http://[2001:db8::7]:8000", "[2001:DB8::7]:8000"),
    ],
)
def test_origins_that_are_answered(origin: str, host: str) -> None:
    """The service's own page, through a proxy with HTTPS too, and those of the settings."""
    check_origin(origin, host, ("https://viewer.example",))


@pytest.mark.parametrize(
    "origin",
    [
        "null", "", "http://evil.example", "http://127.0.0.1:8001", "http://127.0.0.1",
        "https://viewer.example:444", "http://viewer.example", "https://viewer.example.evil",
        "http://[", "http://a]b", "://", "127.0.0.1:8000", "http://127.0.0.1:8000/",
        "http://127.0.0.1:8000:80", "file://127.0.0.1:8000", "http://user@127.0.0.1:8000", "http://127.0.0.1:8000.evil.example",
    ],
)  # fmt: skip
def test_origins_that_are_not(origin: str) -> None:
    """Another site, another port, another scheme, a sandboxed page, a file."""
    with pytest.raises(ForeignOrigin):
        check_origin(origin, "127.0.0.1:8000", ("https://viewer.example",))
