"""The operator's file of PACS nodes."""

from base64 import b64decode
from pathlib import Path

import pytest

from service.errors import InvalidPacsFile, UnknownNode
from service.pacs.nodes import (
    Caller,
    DicomwebNode,
    DimseNode,
    Pacs,
    check_objects,
    read_pacs,
)

SECRET = "hunter2"  # noqa: S105  # of nothing

FILE = """
[nodes.archive]
url = "https://pacs.example/dicom-web/"
username = "lts"
password_file = "{password}"
[nodes.cloud]
url = "https://cloud.example"
token_file = "{password}"
ca_file = "{password}"
proxy = "http://proxy.example:3128"
[nodes.open]
url = "http://127.0.0.1:8042/dicom-web"
[nodes.store]
ae_title = " STORE"
host = "127.0.0.1"
port = 4242
[callers.CTSCANNER1]
destination = "archive"
objects = ["seg", "sr"]
hosts = ["10.0.0.7", "0:0::1"]
[callers."CT 2"]
"""


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\n")
    return path


def read(tmp_path: Path, text: str) -> Pacs:
    path = tmp_path / "pacs.toml"
    path.write_text(text)
    return read_pacs(path)


def test_file(tmp_path: Path, password: Path) -> None:
    """Nodes by name and callers by title, with defaults; an address loses its last slash."""
    pacs = read(tmp_path, FILE.format(password=password))
    archive = pacs.node("archive")
    assert archive == DicomwebNode(
        name="archive",
        url="https://pacs.example/dicom-web",
        username="lts",
        password_file=password,
    )
    assert pacs.origin("archive") is archive
    assert pacs.node("store") == DimseNode(
        name="store", ae_title="STORE", host="127.0.0.1", port=4242
    )
    assert pacs.callers == {
        "CTSCANNER1": Caller(
            destination="archive", objects=("seg", "sr"), hosts=("10.0.0.7", "::1")
        ),
        "CT 2": Caller(destination=None, objects=("seg", "sr", "rtstruct"), hosts=()),
    }


def test_no_file() -> None:
    """Without a file there is neither a node nor a caller."""
    assert read_pacs(None) == Pacs(nodes={}, callers={})


def test_unknown_nodes(tmp_path: Path, password: Path) -> None:
    """A name that is none, and a DIMSE node to fetch from."""
    pacs = read(tmp_path, FILE.format(password=password))
    with pytest.raises(UnknownNode, match="archive, cloud, open, store"):
        pacs.node("other")
    with pytest.raises(UnknownNode, match="DIMSE"):
        pacs.origin("store")
    with pytest.raises(UnknownNode, match="no nodes"):
        Pacs().node("archive")


def test_secrets_are_read_each_time_and_never_shown(tmp_path: Path, password: Path) -> None:
    """No object holds one, so that it can be rotated, and printed by nobody."""
    pacs = read(tmp_path, FILE.format(password=password))
    assert SECRET not in repr(pacs) + str(pacs) + pacs.model_dump_json()
    basic = pacs.origin("archive").authorization() or ""
    assert b64decode(basic.removeprefix("Basic ")).decode() == f"lts:{SECRET}"
    assert pacs.origin("cloud").authorization() == f"Bearer {SECRET}"
    password.write_text("another")
    assert pacs.origin("cloud").authorization() == "Bearer another"
    assert pacs.origin("open").authorization() is None


@pytest.mark.parametrize("secret", ["two\nlines", "umläut\u20ac"])
def test_a_token_that_is_no_header(password: Path, secret: str) -> None:
    """Anything that would end the header or cannot be in one."""
    password.write_text(secret)
    with pytest.raises(ValueError, match="token"):
        DicomwebNode(name="a", url="http://a", token_file=password).authorization()


BAD = {
    "no TOML": ("[nodes.a\nurl = 1", r"TOML.*line 1"),
    "a password in the file": (f'[nodes.a]\nurl="http://h"\npassword="{SECRET}"', "a.password:"),
    "a password in the address": (f'[nodes.a]\nurl="http://u:{SECRET}@h/"', "a.url: a name and"),
    "a name in the address": (f'[nodes.a]\nurl="http://{SECRET}@h/"', "a.url: a name and"),
    "a password as port": (f'[nodes.a]\nurl="http://u:{SECRET}"', "a.url: expected http"),
    "no web address": ('[nodes.a]\nurl="ftp://h"', "a.url: expected http"),
    "a query": ('[nodes.a]\nurl="http://h/?a=1"', r"a.url: .*\?"),
    "a user without a password": ('[nodes.a]\nurl="http://h"\nusername="u"', "a: username and"),
    "two ways in": (
        '[nodes.a]\nurl="http://h"\nusername="u"\npassword_file="{p}"\ntoken_file="{p}"',
        "a: give username",
    ),
    "a colon in the name": (
        '[nodes.a]\nurl="http://h"\nusername="u:v"\npassword_file="{p}"',
        "a.username:",
    ),
    "no such file": ('[nodes.a]\nurl="http://h"\ntoken_file="/nowhere"', "a.token_file: there is"),
    "both protocols": ('[nodes.a]\nurl="http://h"\nport=1', "a.port:"),
    "neither protocol": ("[nodes.a]", "a.ae_title: .*a.host: .*a.port: "),
    "a port beyond": ('[nodes.a]\nae_title="A"\nhost="h"\nport=70000', "a.port:"),
    "a title too long": ('[nodes.a]\nae_title="12345678901234567"\nhost="h"\nport=1', "ae_title:"),
    "a blank title": ('[nodes.a]\nae_title="  "\nhost="h"\nport=1', "ae_title: an AE title"),
    "a backslash": ('[callers."A\\\\B"]', "an AE title"),
    "a name with a space": ('[nodes."a b"]\nurl="http://h"', "a b.name:"),
    "another destination": ('[callers.A]\ndestination="b"', "callers.A is not among the nodes"),
    "another object": ('[callers.A]\nobjects=["png"]', "callers.A.objects.0:"),
    "a report alone": ('[callers.A]\nobjects=["sr"]', "callers.A.objects: sr needs seg"),
    "a host's name": (f'[callers.A]\nhosts=["{SECRET}"]', "hosts.0: expected an IP address"),
    "another table": (f'[other]\na="{SECRET}"', "other:"),
    "no tables": ("nodes = 1\ncallers = []", "nodes: .*callers: "),
    "no table of a node": ('[nodes]\na = "b"\n[callers]\nc = 1', "nodes.a: .*callers.c: "),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_are_refused(tmp_path: Path, password: Path, case: str) -> None:
    """In words that name the place, and hold no value."""
    text, message = BAD[case]
    with pytest.raises(InvalidPacsFile, match=f"(?s){message}") as caught:
        read(tmp_path, text.replace("{p}", str(password)))
    assert SECRET not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    """Missing ones, and those that are no text."""
    path = tmp_path / "pacs.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidPacsFile, match="readable file"):
        read_pacs(path)


@pytest.mark.parametrize(
    ("objects", "message"),
    [((), "at least one"), (("seg", "seg"), "once"), (("sr", "rtstruct"), "sr needs seg")],
)
def test_objects_that_cannot_go_together(objects: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_objects(objects)


def test_objects_that_can_go_together() -> None:
    check_objects(("overlays", "sr", "seg"))
