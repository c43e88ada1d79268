"""What .env.example lists is what can be set, with the defaults that are so."""

import re

import pytest
from conftest import ROOT
from pydantic_core import PydanticUndefined

from service.settings import Settings

LINES = re.findall(r"^#?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
LISTED = dict(LINES)

COMPOSE = (ROOT / "docker-compose.yml").read_text()
VARIABLES = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", COMPOSE))

COMPOSED = {
    "LTS_BIND": "127.0.0.1",
    "LTS_SERVICE_URL": "http://service:8000",
    "LTS_STORE_URL": "s3://lts/segmentations",
    "LTS_MODEL": "/app/models/liver-tumor.onnx",
}
"""Where a container's default is not that of the process alone."""


def settings_names() -> set[str]:
    return {f"LTS_{name.upper()}" for name in Settings.model_fields}


def test_every_setting_is_listed_once() -> None:
    assert settings_names() <= set(LISTED)
    assert len(LINES) == len(LISTED)


def test_nothing_is_listed_that_nothing_reads() -> None:
    """Each name is a setting, a variable of compose, or one that compose hands on."""
    handed_on = set(re.findall(r"^ +([A-Z_]+):$", COMPOSE, re.MULTILINE))
    assert set(LISTED) - settings_names() - set(VARIABLES) - handed_on == {"COMPOSE_PROFILES"}


def test_lines_show_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncommented, they change nothing; but for what compose sets, which is listed here."""
    for name in settings_names() - set(COMPOSED):
        monkeypatch.setenv(name, LISTED[name])
    assert Settings() == Settings.model_construct(**defaults())
    assert {name: LISTED[name] for name in COMPOSED} == COMPOSED


def defaults() -> dict[str, object]:
    found = {name: field.default for name, field in Settings.model_fields.items()}
    assert PydanticUndefined not in found.values()
    return found


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_composes_own_defaults_are_shown(name: str) -> None:
    """What docker-compose.yml takes where .env says nothing."""
    shown = LISTED[name] or VARIABLES[name]
    assert shown == VARIABLES[name]


def test_every_setting_reaches_the_containers() -> None:
    """Compose hands each on, sets it, mounts it as a secret, or leaves it to the image."""
    image = set(re.findall(r"\b(LTS_\w+)=", (ROOT / "Dockerfile").read_text()))
    named = set(re.findall(r"^ +(LTS_[A-Z_]+):", COMPOSE, re.MULTILINE))
    secrets = {path.upper() for path in re.findall(r"^  (lts_\w+): \{file:", COMPOSE, re.MULTILINE)}
    inside = {"LTS_PORT", "LTS_LISTEN_PORT"}  # of the container: its default, whatever is published
    assert settings_names() - named - secrets - image == inside


def test_grace_of_the_container_is_longer_than_the_drain() -> None:
    assert int(VARIABLES["LTS_STOP_GRACE"].removesuffix("s")) > Settings().grace_s + 5
