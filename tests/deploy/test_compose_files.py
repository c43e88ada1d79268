"""docker-compose.yml as a document: compose takes it, and no service is left unhardened."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

MAIN, GPU = "docker-compose.yml", "docker-compose.gpu.yml"
PROFILES = ("", "proxy", "cluster", "pacs", "observability", "cluster,pacs,observability")

DOCUMENT = yaml.safe_load((ROOT / MAIN).read_text())
SERVICES = DOCUMENT["services"]
OURS = ("service", "inner", "api", "worker", "listen")

every_service = pytest.mark.parametrize("name", sorted(SERVICES))


def compose(*words: str, profiles: str = "") -> subprocess.CompletedProcess:
    """Compose v2, of the environment that tests run in; it reads, and asks no engine."""
    program = Path(sys.executable).with_name("docker-compose")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LTS_")}
    return subprocess.run(
        [program, "--env-file", os.devnull, *words], cwd=ROOT, capture_output=True, text=True,
        env={**kept, "COMPOSE_PROFILES": profiles}, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("profiles", PROFILES)
@pytest.mark.parametrize("files", [(MAIN,), (MAIN, GPU)], ids=["cpu", "gpu"])
def test_compose_takes_it(files: tuple[str, ...], profiles: str) -> None:
    """Its schema, its references and its variables, in every combination that is documented."""
    words = [word for name in files for word in ("--file", name)]
    done = compose(*words, "config", "--quiet", profiles=profiles)
    assert (done.returncode, done.stderr) == (0, "")


def test_up_alone_is_one_container() -> None:
    assert compose("config", "--services").stdout.split() == ["service"]


@pytest.mark.parametrize("key", ["name", "include", "gpus", "start_interval", "version"])
def test_nothing_is_used_that_older_composes_refuse(key: str) -> None:
    """docker-compose 1.29 knows none of these."""
    text = "".join((ROOT / name).read_text() for name in (MAIN, GPU))
    assert f"\n{key}:" not in text
    assert f" {key}:" not in text


@every_service
def test_service_is_hardened(name: str) -> None:
    """No capability, no way to any, a read-only root, an init, and an end to its log."""
    found = SERVICES[name]
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["read_only"] is True
    assert found["init"] is True
    assert "cap_add" not in found
    assert "privileged" not in found
    assert set(found["logging"]["options"]) == {"max-size", "max-file"}


@every_service
def test_service_is_bounded_and_comes_back(name: str) -> None:
    """Memory and processes have a limit; it restarts, and is asked for its health."""
    found = SERVICES[name]
    assert found["mem_limit"] == found["memswap_limit"]  # nothing is swapped out to a disk
    assert found["pids_limit"]
    assert found["restart"] == "unless-stopped"
    assert found["stop_grace_period"]
    assert "healthcheck" in found or name in OURS  # whose image has one


@every_service
def test_port_is_published_on_loopback_unless_told(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith(("127.0.0.1:", "${")), port
        assert ":-127.0.0.1}:" in port or port.startswith("127.0.0.1:"), port


@every_service
def test_image_of_others_is_pinned_and_can_be_replaced(name: str) -> None:
    """A variable with a version as its default: a mirror's name may take its place."""
    image = SERVICES[name]["image"]
    assert image.startswith("${LTS_")
    tag = image.removesuffix("}").rpartition(":")[2]
    assert any(letter.isdigit() for letter in tag) or name in OURS
    assert "latest" not in image


@every_service
def test_start_is_ordered_by_health(name: str) -> None:
    for condition in SERVICES[name].get("depends_on", {}).values():
        assert condition == {"condition": "service_healthy"}


@every_service
def test_secrets_are_files(name: str) -> None:
    """No variable holds a password or a key; those that name a file do."""
    for variable, value in SERVICES[name].get("environment", {}).items():
        secret = any(word in variable for word in ("PASSWORD", "SECRET", "KEY", "TOKEN"))
        assert not secret or variable.endswith(("_FILE", "__FILE", "_PER_MINUTE")) or (
            variable == "LTS_TLS_KEY"  # a path
        ), (variable, value)  # fmt: skip


def test_database_and_bucket_are_in_a_network_of_their_own() -> None:
    assert DOCUMENT["networks"]["shared"]["internal"] is True
    for name in ("postgres", "store"):
        assert SERVICES[name]["networks"] == ["shared"]
        assert "ports" not in SERVICES[name]


def test_folders_that_are_mounted_are_in_the_repository() -> None:
    for found in SERVICES.values():
        for volume in found.get("volumes", ()):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists(), volume


def test_secrets_are_what_the_script_makes(tmp_path: Path) -> None:
    """Each file that compose names is made, at random, for the owner's folder alone; once."""
    script = tmp_path / "make"
    script.write_bytes((ROOT / "deploy" / "secrets" / "make").read_bytes())
    subprocess.run(["bash", script], check=True, capture_output=True)
    made = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    named = {tmp_path / Path(found["file"]).name for found in DOCUMENT["secrets"].values()}
    assert named <= set(made)
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o444 for path in made if path != script)
    assert len({text for path, text in made.items() if path.name.endswith("password")}) == 3
    subprocess.run(["bash", script], check=True, capture_output=True)
    assert {path: path.read_text() for path in made} == made
