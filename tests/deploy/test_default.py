"""`docker compose up` on a machine without anything: one container, from start to upgrade."""

import json
import time
from pathlib import Path

import pytest
import requests
from deploy.engine import Project, engine, until

pytestmark = [pytest.mark.deploy, pytest.mark.real_ct]

READY_S = 20
GRACE_S = 45  # stop_grace_period


@pytest.fixture(scope="module")
def ready_s(deployed: Project) -> float:
    """Seconds from `up` until the service is ready."""
    began = time.monotonic()
    deployed.up()
    deployed.wait_ready()
    return time.monotonic() - began


@pytest.fixture
def service(deployed: Project, ready_s: float) -> Project:
    """The running container, ready."""
    deployed.up()
    deployed.wait_ready()
    return deployed


def test_it_is_ready_soon(ready_s: float, figures: dict[str, str]) -> None:
    figures["seconds from up to ready"] = f"{ready_s:.1f}"
    assert ready_s < READY_S


def test_idle_memory(service: Project, figures: dict[str, str]) -> None:
    """The model is in memory, and little else: well under the limit of 8 GB."""
    time.sleep(5)
    status = service.execute("sh", "-c", "cat /proc/*/status 2>/dev/null | grep VmRSS")
    idle_mb = sum(int(line.split()[1]) for line in status.splitlines()) / 1e3
    figures["idle memory (RSS of the container's processes)"] = f"{idle_mb:.0f} MB"
    assert idle_mb < 800


def test_real_ct_through_the_container(service: Project, real_ct: Path) -> None:
    """A liver of the size of a liver, in an answer that names the model."""
    answer = requests.post(
        f"{service.url}/v1/segment",
        real_ct.read_bytes(),
        headers={"Content-Type": "application/zip"},
        timeout=300,
    )
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert 600 < result["findings"]["liver"]["volume_ml"] < 3000
    assert result["model"]["sha256"]


@pytest.mark.parametrize("path", ["/app/x", "/etc/x", "/usr/x", "/app/venv/x", "/var/x"])
def test_root_file_system_is_read_only(service: Project, path: str) -> None:
    assert "Read-only file system" in service.execute("touch", path, check=False)


def test_process_has_no_privileges(service: Project) -> None:
    """Not root, no capability in any set, none to be had by running another program."""
    assert service.execute("id", "-u").strip() == "10001"
    status = service.execute("cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert fields["NoNewPrivs"] == "1"


def test_data_are_for_nobody_else(service: Project) -> None:
    assert service.execute("stat", "-c", "%a %u", "/data").split() == ["700", "10001"]


def test_nothing_is_queued_for_the_makers_of_libraries(service: Project) -> None:
    """ONNX Runtime's telemetry would keep its events below the home folder, which is /data."""
    held = service.execute("ls", "-A", "/data").split()
    assert "lock" in held
    assert ".cache" not in held


def test_engine_knows_that_it_is_well(service: Project) -> None:
    until(lambda: service.health() == "healthy", 30, "healthy")


def test_port_is_published_on_loopback_alone(service: Project) -> None:
    """As `docker compose up` leaves it, nobody else on the network reaches the service."""
    ports = json.loads(engine("inspect", service.container()))[0]["NetworkSettings"]["Ports"]
    published = [found["HostIp"] for bindings in ports.values() for found in bindings or ()]
    assert published == ["127.0.0.1"]


def test_foreign_host_is_refused(service: Project) -> None:
    """Another site's name that was made to point here (DNS rebinding)."""
    answer = requests.get(
        f"{service.url}/v1/segmentations", headers={"Host": "evil.example"}, timeout=10
    )
    assert answer.status_code in (400, 403, 421)


def test_stop_drains(service: Project, real_ct: Path) -> None:
    """SIGTERM: exit status 0 within the grace period, and what was accepted ends after a start."""
    job = service.submit(real_ct.read_bytes())
    began = time.monotonic()
    service.compose("stop")
    assert time.monotonic() - began < GRACE_S
    state = service.state()
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    service.compose("start")
    assert service.ended(job)["status"] == "succeeded"


def test_killed_process_comes_back(service: Project, real_ct: Path) -> None:
    """The engine restarts what died, and the job that it had accepted ends."""
    job = service.submit(real_ct.read_bytes())
    container = service.container()
    service.execute("sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")
    until(lambda: json.loads(engine("inspect", container))[0]["RestartCount"] == 1, 30, "a restart")
    assert service.ended(job)["status"] == "succeeded"


def test_killed_container_is_started_again(service: Project, real_ct: Path) -> None:
    """`docker kill` is an operator's word, so that `up` has to follow; then the job ends."""
    job = service.submit(real_ct.read_bytes())
    engine("kill", service.container())
    service.up()
    assert service.ended(job)["status"] == "succeeded"


def test_restart_keeps_the_job(service: Project, real_ct: Path) -> None:
    job = service.submit(real_ct.read_bytes())
    service.compose("restart")
    assert service.ended(job)["status"] == "succeeded"


def test_upgrade_keeps_the_job(service: Project, next_image: str, real_ct: Path) -> None:
    """Another image in .env, `up`: a new container of the new version finishes the job."""
    job = service.submit(real_ct.read_bytes())
    service.variables["LTS_IMAGE"] = next_image
    service.up()
    assert service.ended(job)["status"] == "succeeded"
    labels = json.loads(engine("inspect", service.container()))[0]["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == "next"
