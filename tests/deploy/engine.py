"""The container engine of DOCKER_HOST, and docker-compose.yml run on it as an operator runs it."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from uuid import uuid4

import requests
from conftest import ROOT

UP_S = 180
JOB_S = 300


@cache
def docker() -> str:
    """The first docker in the PATH that builds with BuildKit, which a client may lack."""
    places = os.environ["PATH"].split(":")
    for client in dict.fromkeys(filter(None, (shutil.which("docker", path=p) for p in places))):
        asked = subprocess.run(
            [client, "build", "--help"],
            env=_environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "--secret" in asked.stdout:
            return client
    raise FileNotFoundError("expected a docker in the PATH that builds with BuildKit, found none")


@cache
def compose() -> tuple[str, ...]:
    """Compose as LTS_COMPOSE names it, else v2 as docker's plugin, else docker-compose."""
    if named := os.environ.get("LTS_COMPOSE"):
        return tuple(named.split())
    asked = subprocess.run([docker(), "compose", "version"], capture_output=True, check=False)
    return (docker(), "compose") if asked.returncode == 0 else ("docker-compose",)


def engine(*words: str, check: bool = True) -> str:
    """What a command of docker says, both streams together."""
    return _run([docker(), *words], check=check, environment=_environment())


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def until(done: Callable[[], object], within_s: float, what: str) -> None:
    """Ask twice a second until it is so."""
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.5)


@dataclass
class Project:
    """A folder as an operator has it (compose files, deploy/, .env), and what runs from it."""

    folder: Path
    variables: dict[str, str]
    name: str = field(default_factory=lambda: f"lts-test-{uuid4().hex[:8]}")
    address: str = "127.0.0.1"
    port: int = 0
    scheme: str = "http"
    authority: str | bool = True
    """Who signed the certificate of `https`: a file, or those that everybody knows."""

    def __post_init__(self) -> None:
        self.port = free_port(self.address)
        self.variables |= {"LTS_BIND": self.address, "LTS_PORT": str(self.port)}

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}:{self.port}"

    def compose(self, *words: str, check: bool = True) -> str:
        """A command of compose, with .env as the variables are now."""
        lines = [f"{name}={value}\n" for name, value in self.variables.items()]
        (self.folder / ".env").write_text("".join(lines))
        command = [*compose(), "--project-name", self.name, *words]
        return _run(command, check=check, environment=_environment(), folder=self.folder)

    def shell(self, line: str) -> str:
        """A line of the guide, in the folder; compose finds the project by its usual variable."""
        given = {**_environment(), "COMPOSE_PROJECT_NAME": self.name}
        return _run(["bash", "-euc", line], check=True, environment=given, folder=self.folder)

    def make_secrets(self) -> None:
        subprocess.run([self.folder / "deploy/secrets/make"], check=True, capture_output=True)

    def up(self, *services: str) -> None:
        """Start, or change what has changed; the images are there."""
        self.compose("up", "--detach", "--no-build", *services)

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers, running or not."""
        labels = (f"project={self.name}", f"service={service}")
        filters = [f"--filter=label=com.docker.compose.{label}" for label in labels]
        return engine("ps", "--all", "--quiet", "--no-trunc", *filters).split()

    def container(self, service: str = "service") -> str:
        (found,) = self.containers(service)
        return found

    def execute(self, *words: str, service: str = "service", check: bool = True) -> str:
        return engine("exec", self.container(service), *words, check=check)

    def logs(self, service: str = "service") -> str:
        return "".join(engine("logs", found) for found in self.containers(service))

    def state(self, service: str = "service") -> dict:
        """What the engine knows of the one container of a service."""
        return json.loads(engine("inspect", self.container(service)))[0]["State"]

    def health(self, service: str = "service") -> str:
        return self.state(service)["Health"]["Status"]

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/health/ready", timeout=2, verify=self.authority).ok
        except requests.RequestException:
            return False

    def wait_ready(self, within_s: float = UP_S) -> None:
        until(self.is_ready, within_s, "ready")

    def submit(self, study: bytes) -> str:
        """Have a zip segmented; gives the job's address, at once."""
        sent = {"Content-Type": "application/zip", "Prefer": "respond-async"}
        answer = requests.post(
            f"{self.url}/v1/segmentations", study, headers=sent, timeout=60, verify=self.authority
        )
        assert answer.status_code == 202, answer.text
        return f"{self.url}{answer.headers['Location']}"

    def ended(self, job: str, within_s: float = JOB_S) -> dict:
        """The job's document once it has ended, whatever restarts meanwhile."""
        found: dict = {}

        def has_ended() -> bool:
            found.clear()
            try:
                found.update(requests.get(job, timeout=10, verify=self.authority).json())
            except requests.RequestException:
                return False
            return found.get("status") in ("succeeded", "failed", "cancelled")

        until(has_ended, within_s, f"the end of {job}")
        return found

    def down(self) -> None:
        """Nothing of it is left, volumes included, whatever profile started it."""
        self.variables |= {"COMPOSE_PROFILES": "proxy,cluster,pacs,observability"}
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)


@contextmanager
def project(folder: Path, address: str = "127.0.0.1", **variables: str) -> Iterator[Project]:
    """What an installation consists of, copied, without secrets; torn down at the end."""
    shutil.copy(ROOT / "docker-compose.yml", folder)
    shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=_made, dirs_exist_ok=True)
    running = Project(folder, dict(variables), address=address)
    try:
        yield running
    finally:
        running.down()


def _made(folder: str, names: list[str]) -> list[str]:
    """What deploy/secrets holds beside what makes it: an operator's own, which no test takes."""
    kept = ("make", "pacs", "tls", ".gitignore", ".gitkeep")
    return [name for name in names if name not in kept] if "secrets" in Path(folder).parts else []


def _environment() -> Mapping[str, str]:
    """The machine's own variables: those of the service's settings come from .env alone."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LTS_", "COMPOSE_"))
    }
    return {**kept, "DOCKER_BUILDKIT": "1"}


def _run(
    command: Sequence[str], *, check: bool, environment: Mapping[str, str], folder: Path = ROOT
) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=900, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout
