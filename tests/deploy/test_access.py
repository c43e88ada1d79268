"""Who may reach the container: beyond loopback it asks for a key, and it may serve TLS."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from deploy.engine import Project, engine, project, until

pytestmark = pytest.mark.deploy


def bridge_address() -> str:
    """This machine's address in the engine's own network: no loopback, and reached from here."""
    (network,) = json.loads(engine("network", "inspect", "bridge"))
    return network["IPAM"]["Config"][0]["Gateway"]


@pytest.fixture(scope="module")
def beyond(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A container that is published beyond loopback, without a key."""
    with project(
        tmp_path_factory.mktemp("beyond"), address=bridge_address(), LTS_IMAGE=image
    ) as found:
        found.up()
        yield found


def test_without_a_key_it_refuses_to_start(beyond: Project) -> None:
    """It says why, ends with 1, and answers nobody."""
    until(lambda: "nobody would be asked who calls" in beyond.logs(), 30, "the refusal")
    until(lambda: beyond.state()["ExitCode"] == 1, 30, "its end with 1")
    assert not beyond.is_ready()


def test_with_a_key_it_starts_and_asks_for_it(beyond: Project) -> None:
    """A key made in the data volume while the container restarts: the next start serves."""
    run = ("run", "--rm", "--no-deps", "service", "keys", "create", "tests", "--scope", "read")
    key = beyond.compose(*run).splitlines()[-1].strip()
    beyond.wait_ready()
    address = f"{beyond.url}/v1/segmentations"
    assert requests.get(address, timeout=10).status_code == 401
    asked = requests.get(address, headers={"Authorization": f"Bearer {key}"}, timeout=10)
    assert asked.status_code == 200
    refused = requests.post(address, b"", headers={"X-API-Key": key}, timeout=10)
    assert refused.status_code == 403


def serve_https(found: Project) -> None:
    """Give it a certificate for this machine, signed by itself, where docs/operations.md says."""
    folder = found.folder / "deploy" / "secrets" / "tls"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", "key.pem", "-out", "certificate.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    (folder / "key.pem").chmod(0o444)
    found.scheme, found.authority = "https", str(folder / "certificate.pem")


def test_tls_without_a_proxy(image: str, tmp_path: Path) -> None:
    """The container serves HTTPS itself, and its health check knows."""
    settings = {
        "LTS_TLS_CERTIFICATE": "/etc/lts/tls/certificate.pem",
        "LTS_TLS_KEY": "/etc/lts/tls/key.pem",
    }
    with project(tmp_path, LTS_IMAGE=image, **settings) as found:
        serve_https(found)
        found.up()
        found.wait_ready()
        until(lambda: found.health() == "healthy", 30, "healthy")


def test_tls_by_the_proxy(image: str, nginx_image: str, tmp_path: Path) -> None:
    """Profile `proxy`: nginx alone is published, and the service is reached through it."""
    with project(
        tmp_path, LTS_IMAGE=image, LTS_NGINX_IMAGE=nginx_image, COMPOSE_PROFILES="proxy",
        LTS_SINGLE="0",
    ) as found:  # fmt: skip
        serve_https(found)
        found.up()
        found.wait_ready()
        assert found.containers("service") == []
        answer = requests.get(f"{found.url}/v1/models", verify=found.authority, timeout=10)
        assert answer.status_code == 200
        plain = requests.get(f"http://127.0.0.1:{found.port}/", allow_redirects=False, timeout=10)
        assert plain.status_code == 301
        assert plain.headers["Location"].startswith("https://")
