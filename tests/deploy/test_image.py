"""The image for the CPU: small, unprivileged, and with nothing in it that only a build needs."""

import json
import re

import pytest
from conftest import ROOT
from deploy.engine import engine

pytestmark = pytest.mark.deploy

MAX_BYTES = 700_000_000
LOADING_S = 8


@pytest.fixture(scope="module")
def facts(image: str) -> dict:
    return json.loads(engine("image", "inspect", image))[0]


def inside(image: str, command: str) -> str:
    return engine("run", "--rm", "--entrypoint", "sh", image, "-c", command)


def test_it_is_small(facts: dict, figures: dict[str, str]) -> None:
    """Under 700 MB, layers and all."""
    figures["size of the image for the CPU"] = f"{facts['Size'] / 1e6:.0f} MB"
    assert facts["Size"] < MAX_BYTES


def test_it_says_what_it_is(facts: dict) -> None:
    """Labels name version and licence, the user is not root, the engine can ask for its health."""
    config = facts["Config"]
    assert config["Labels"]["org.opencontainers.image.version"] == "tested"
    assert config["Labels"]["org.opencontainers.image.licenses"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][-1] == "/app/health.py"


@pytest.mark.parametrize("tool", ["gcc", "cc", "ld", "make", "pip", "pip3", "git", "curl"])
def test_no_tool_of_the_build_is_left(image: str, tool: str) -> None:
    """No compiler, no installer of Python's packages, nothing that downloads."""
    assert inside(image, f"command -v {tool} || true") == ""


def test_no_cache_is_left(image: str) -> None:
    """Neither of apt nor of pip."""
    folders = "/var/lib/apt/lists /var/cache /root /home"
    assert inside(image, f"find {folders} -type f -size +4k 2>/dev/null || true") == ""


def test_nothing_of_the_application_is_writable(image: str) -> None:
    """Its user owns the volume, and nothing else."""
    found = inside(image, "find /app /etc /usr /var/lib -writable -not -type l 2>/dev/null || true")
    assert found == ""


def test_bill_of_materials_is_the_images_own(image: str) -> None:
    """Every package that Python and Debian say is installed is a component, and so is the model."""
    bill = json.loads(inside(image, "cat /app/sbom.cdx.json"))
    parts = {(part["name"], part.get("version")) for part in bill["components"]}
    query = "dpkg-query --show --showformat='${Package} ${Version}\\n'"
    debian = {tuple(line.split()) for line in inside(image, query).splitlines()}
    listing = (
        "from importlib.metadata import *; [print(d.name, d.version) for d in distributions()]"
    )
    python = inside(image, f"python -c '{listing}'").lower().replace("_", "-").splitlines()
    assert debian <= parts
    assert {tuple(line.split()) for line in python} <= parts
    assert ("liver-tumor.onnx", None) in parts
    assert {"debian", "@niivue/niivue"} <= {name for name, _ in parts}


def test_every_codec_that_the_service_calls_is_left(image: str) -> None:
    """deploy/image/install takes the others out of imagecodecs."""
    sources = "".join(path.read_text() for path in (ROOT / "service").rglob("*.py"))
    called = set(re.findall(r"imagecodecs\.(\w+)_decode", sources))
    assert called
    states = "".join(f"print(imagecodecs.{name.upper()}.available)\n" for name in sorted(called))
    found = inside(image, f"python -c 'import imagecodecs\n{states}'").split()
    assert found == ["True"] * len(called)


def test_model_of_another_hash_is_never_ready(image: str) -> None:
    """A file that is not the one that was released: the service lives, and says 503."""
    script = (
        "cp -r /app/models /tmp && echo >> /tmp/models/liver-tumor.onnx && "
        "export LTS_MODEL=/tmp/models/liver-tumor.onnx LTS_BIND=127.0.0.1 && "
        f"(python -m service serve > /dev/null 2>&1 &) && sleep {LOADING_S} && "
        "python -c 'import http.client as h\n"
        'for path in ("live", "ready"):\n'
        '    c = h.HTTPConnection("127.0.0.1", 8000)\n'
        '    c.request("GET", "/health/" + path)\n'
        "    print(c.getresponse().status)'"
    )
    assert inside(image, script).split() == ["200", "503"]
