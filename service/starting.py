"""What a command makes sure of before it begins; what is wrong ends the process in words."""

import fcntl
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer
from pydantic import ValidationError

from service.access.sites import is_loopback
from service.errors import ServiceError
from service.settings import Settings

if TYPE_CHECKING:
    from service.access.keys import Keys
    from service.pacs.nodes import Pacs

SECRETS = Path("/run/secrets")
"""Where container engines put secrets: a setting may be a file there, named in lower case."""


def read_settings() -> Settings:
    """The settings from the environment and from secrets."""
    try:
        return Settings(_secrets_dir=SECRETS if SECRETS.is_dir() else None)
    except ValidationError as error:
        for item in error.errors():
            name = f"LTS_{str(item['loc'][0]).upper()}: " if item["loc"] else ""
            typer.echo(f"{name}{item['msg']}", err=True)
        raise typer.Exit(1) from error


def nodes_of(settings: Settings) -> "Pacs":
    """The file of PACS nodes."""
    from service.pacs.nodes import read_pacs

    try:
        return read_pacs(settings.pacs_file)
    except ServiceError as error:
        refuse(f"{error.title} {error}")


def make_folder(settings: Settings) -> None:
    """The data folder, for nobody else to look into."""
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        refuse(f"Expected LTS_DATA_DIR to be a folder that can be written: {error.strerror}.")


def take_folder(settings: Settings, lock_file: Path) -> None:
    """Hold the lock's folder until this process ends: a second one would redo the first one's jobs.

    The lock goes with the process, however it ends.
    """
    make_folder(settings)
    try:
        lock_file.parent.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        refuse(
            "Expected LTS_DATA_DIR to be this service's own, found another process at work in it."
        )
    except OSError as error:
        refuse(f"Expected LTS_DATA_DIR to be a folder that can be written: {error.strerror}.")


def refuse_half_a_cluster(settings: Settings, *, is_shared: bool) -> None:
    """Processes that share jobs share both the database and the store."""
    if (settings.database_url is None) != (settings.store_url is None):
        refuse("Expected LTS_DATABASE_URL and LTS_STORE_URL together, found one of them.")
    if settings.database_url is None and is_shared:
        refuse("Expected LTS_DATABASE_URL and LTS_STORE_URL where processes share the work.")


def refuse_open_doors(settings: Settings) -> None:
    """Anyone who reaches the address could use the service, unless keys are asked for."""
    if settings.allow_unauthenticated or settings.oidc_issuer or is_loopback(settings.exposed):
        return
    with open_keys(settings) as keys:
        if keys.exist():
            return
    name = "LTS_HOST" if settings.bind is None else "LTS_BIND"
    refuse(
        f"Expected {name} to be a loopback address, or a key, found neither: nobody would be asked "
        "who calls. Make a key with `python -m service keys create NAME`, or set "
        "LTS_ALLOW_UNAUTHENTICATED=true if only trusted callers reach the service."
    )


def check_certificate(settings: Settings) -> None:
    """The certificate and its key, where HTTPS is to be served."""
    if settings.tls_certificate is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Without this it would ask whoever started it for the key's password.
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, lambda: "")
    except (OSError, ssl.SSLError) as error:
        found = getattr(error, "reason", None) or error.strerror
        refuse(f"Expected LTS_TLS_CERTIFICATE and LTS_TLS_KEY to belong together: {found}.")


def refuse(reason: str) -> NoReturn:
    """End the process with this sentence."""
    typer.echo(reason, err=True)
    raise typer.Exit(1)


@contextmanager
def open_keys(settings: Settings) -> "Iterator[Keys]":
    """The keys, once the database answers."""
    from service.access.keys import Keys
    from service.database import once_reachable

    make_folder(settings)
    try:
        keys = once_reachable(lambda: Keys(settings.registry_url))
        try:
            yield keys
        finally:
            keys.close()
    except ServiceError as error:
        refuse(f"{error.title} {error}")
