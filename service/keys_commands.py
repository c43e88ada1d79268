"""Command line for API keys: `python -m service keys create | replace | list | revoke`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import typer

from service import logs
from service.access.caller import SCOPES, Scope
from service.access.keys import Key, Keys
from service.starting import open_keys, read_settings, refuse

DAY_S = 86_400

WIDE = 160
"""Of a list that goes to a file or another program, in which no cell is to be cut."""

Days = Annotated[float | None, typer.Option(min=0.0001, max=36_500, help="until it expires")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="as `keys list` shows it")]

app = typer.Typer(
    no_args_is_help=True,
    help="Make, replace, list and revoke API keys, in the database of the service's settings.",
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="whose it is; for lists only")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, write or admin; several times for several; default: read, write"),
    ] = None,
    rate_per_minute: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help="requests for work; default: the settings'"),
    ] = None,
    days: Days = None,
) -> None:
    """Make a key and print it. It is nowhere else: a key that is lost is replaced.

    From the first key on the service asks every caller for one.
    """
    if not name.isprintable() or not 0 < len(name) <= 64:
        raise typer.BadParameter("expected 1 to 64 printable characters", param_hint="NAME")
    scopes = _scopes(scope or ["read", "write"])
    with _keys() as keys:
        typer.echo(keys.create(name, scopes, rate_per_minute, _seconds(days)))


@app.command()
def replace(key_id: KeyId, days: Days = None) -> None:
    """Make and print another key for the same owner, with the same scopes, rate and lifetime.

    Both open what the owner has made; revoke the old one when the new one is in use.
    """
    with _keys() as keys:
        text = keys.replace(key_id, _seconds(days))
    if text is None:
        refuse("Expected the id of a key, found another.")
    typer.echo(text)


@app.command("list")
def list_all() -> None:
    """List all keys that were ever made, without their secrets."""
    from rich.console import Console
    from rich.table import Column, Table

    with _keys() as keys:
        listed = keys.all()
    whole = Column("id", no_wrap=True, min_width=12)
    table = Table(whole, "name", "owner", "scopes", "rate", "made", "expires", "state")
    for key in listed:
        table.add_row(
            key.id,
            key.name,
            key.owner,
            key.scopes,
            "" if key.rate_per_minute is None else str(key.rate_per_minute),
            _day(key.created_at),
            "never" if key.expires_at is None else _day(key.expires_at),
            _state(key),
        )
    width = None if sys.stdout.isatty() else WIDE
    Console(width=width, markup=False, highlight=False, emoji=False).print(table)


@app.command()
def revoke(key_id: KeyId) -> None:
    """Let a key open nothing any more, within five seconds; what it made is kept for admins."""
    with _keys() as keys:
        was_valid = keys.revoke(key_id)
    if not was_valid:
        refuse("Expected the id of a key that is not revoked, found another.")
    typer.echo("revoked")


@contextmanager
def _keys() -> Iterator[Keys]:
    settings = read_settings()
    logs.configure()
    with open_keys(settings) as keys:
        yield keys


def _seconds(days: float | None) -> float | None:
    return None if days is None else days * DAY_S


def _scopes(names: list[str]) -> tuple[Scope, ...]:
    found = tuple(scope for scope in SCOPES if scope in names)
    if len(found) != len(set(names)):
        raise typer.BadParameter(f"expected one of {', '.join(SCOPES)}", param_hint="--scope")
    return found


def _state(key: Key) -> str:
    if key.is_revoked:
        return "revoked"
    return "valid" if key.is_valid else "expired"


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")
