"""The PACS nodes that the service fetches from and delivers to, by name, from the operator's file.

    [nodes.archive]                       # DICOMweb
    url = "https://pacs.example/dicom-web"
    username = "lts"                      # with password_file; or token_file alone; or neither
    password_file = "/run/secrets/archive"
    ca_file = "/etc/ssl/hospital.pem"     # instead of the usual authorities
    proxy = "http://proxy.example:3128"   # the environment's is not used

    [nodes.store]                         # DIMSE
    ae_title = "STORE"
    host = "10.0.0.5"
    port = 104
    calling_ae_title = "LIVERTUMOR"       # instead of that of `listen`

    [callers.CTSCANNER1]                  # who may send to `listen`
    destination = "archive"               # where the result goes; nowhere by default
    objects = ["seg", "sr", "rtstruct"]   # the default
    hosts = ["10.0.0.7"]                  # its addresses; any by default

A request names a node and never an address. Secrets are in files of their own and are read each
time that they are used, so that they can be rotated and no object of this module holds one.
"""

import re
import tomllib
from base64 import b64encode
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from service.encode.objects import USUAL, ObjectName, check_objects
from service.errors import InvalidPacsFile, UnknownNode


def _checked_objects(objects: tuple[ObjectName, ...]) -> tuple[ObjectName, ...]:
    check_objects(objects)
    return objects


def _checked_title(title: str) -> str:
    """As PS3.5 section 6.2 has them: spaces around a title do not count, a backslash is none."""
    if "\\" in title or not title.strip():
        raise ValueError("an AE title has at least one character, and no backslash")
    return title.strip()


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # whose message may hold a password: http://name:password is a port to it
        raise ValueError("expected http://host:port/path") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected http://... or https://... with a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a name and a password belong in username and password_file")
    if parts.query or parts.fragment:
        raise ValueError("expected an address without ? and #")
    return url.rstrip("/")


def _checked_address(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        raise ValueError("expected an IP address") from None


def _checked_file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("there is no such file")
    return path


_Objects = Annotated[tuple[ObjectName, ...], AfterValidator(_checked_objects)]
_Title = Annotated[str, Field(pattern=r"^[ -~]{1,16}$"), AfterValidator(_checked_title)]
_Url = Annotated[str, Field(pattern=r"^[!-~]+$"), AfterValidator(_checked_url)]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
_File = Annotated[Path, AfterValidator(_checked_file)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DicomwebNode(_Table):
    """A PACS that speaks DICOMweb; it can be fetched from and delivered to."""

    name: _Name
    url: _Url
    username: str | None = Field(None, pattern=r"^[^:]+$")  # RFC 7617: the colon ends it
    password_file: _File | None = None
    token_file: _File | None = None
    ca_file: _File | None = None
    proxy: _Url | None = None

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together")
        if self.username is not None and self.token_file is not None:
            raise ValueError("give username and password_file, or token_file, not both")
        return self

    def authorization(self) -> str | None:
        """The header's value as the files are now, None without any.

        Raises `OSError`, or `ValueError` for what cannot be in a header.
        """
        if self.token_file is not None:
            token = _secret(self.token_file)
            if not (token.isascii() and token.isprintable()):
                raise ValueError("expected a token of printable ASCII")
            return f"Bearer {token}"
        if self.password_file is None:
            return None
        pair = f"{self.username}:{_secret(self.password_file)}"
        return f"Basic {b64encode(pair.encode()).decode()}"


class DimseNode(_Table):
    """A PACS that takes objects by C-STORE; it can be delivered to."""

    name: _Name
    ae_title: _Title
    host: str = Field(pattern=r"^[A-Za-z0-9_.:-]+$")
    port: int = Field(ge=1, le=65535)
    calling_ae_title: _Title | None = None


def _protocol(table: object) -> str:
    if isinstance(table, BaseModel):
        return "dicomweb" if isinstance(table, DicomwebNode) else "dimse"
    return "dicomweb" if isinstance(table, dict) and "url" in table else "dimse"


Node = Annotated[
    Annotated[DicomwebNode, Tag("dicomweb")] | Annotated[DimseNode, Tag("dimse")],
    Discriminator(_protocol),
]


class Caller(_Table):
    """Who may send to `listen`, and what happens with the result."""

    destination: str | None = None
    objects: _Objects = USUAL
    hosts: tuple[Annotated[str, AfterValidator(_checked_address)], ...] = ()


class Pacs(_Table):
    """The whole file; `callers` by AE title."""

    nodes: Mapping[str, Node] = Field(default_factory=dict)
    callers: Mapping[_Title, Caller] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _nodes_know_their_names(cls, tables: dict[str, Any]) -> dict[str, Any]:
        nodes = tables.get("nodes")
        if not isinstance(nodes, dict):
            return tables
        named = {
            name: {**table, "name": name} if isinstance(table, dict) else table
            for name, table in nodes.items()
        }
        return tables | {"nodes": named}

    @model_validator(mode="after")
    def _destinations_exist(self) -> Self:
        for title, caller in self.callers.items():
            if caller.destination is not None and caller.destination not in self.nodes:
                raise ValueError(f"the destination of callers.{title} is not among the nodes")
        return self

    def node(self, name: str) -> DicomwebNode | DimseNode:
        """Raises `UnknownNode`."""
        node = self.nodes.get(name)
        if node is None:
            known = ", ".join(sorted(self.nodes)) or "no name, since the settings have no nodes"
            raise UnknownNode(f"Expected {known}; found another name.")
        return node

    def origin(self, name: str) -> DicomwebNode:
        """A node that series can be fetched from. Raises `UnknownNode`."""
        node = self.node(name)
        if not isinstance(node, DicomwebNode):
            raise UnknownNode("Expected a node of DICOMweb to fetch from, found one of DIMSE.")
        return node


def read_pacs(path: Path | None) -> Pacs:
    """What the file says, nothing without one. Raises `InvalidPacsFile`."""
    if path is None:
        return Pacs()
    try:
        return Pacs.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at .*\)$", str(error))
        raise InvalidPacsFile(
            f"Expected TOML, found something else {place.group() if place else ''}".rstrip() + "."
        ) from None
    except ValidationError as error:
        raise InvalidPacsFile(_in_words(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPacsFile(
            f"Expected a readable file of PACS nodes, found {type(error).__name__}."
        ) from None


def _in_words(error: ValidationError) -> str:
    """Where and what, without the values: one of them may be a secret in the wrong place."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(": ".join(filter(None, (_place(p["loc"]), _fault(p["msg"])))) for p in found)


def _place(parts: tuple[int | str, ...]) -> str:
    if parts[:1] == ("nodes",):
        parts = parts[:2] + parts[3:]  # the third is the node's protocol
    return ".".join(str(part) for part in parts if part != "[key]")


def _fault(message: str) -> str:
    return message.removeprefix("Value error, ")


def _secret(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
