"""The bill of materials: valid CycloneDX, complete, and the same for the same parts."""

import json
import subprocess
import sys
from importlib.metadata import distributions

import pytest
from conftest import ROOT

from deploy.image import sbom
from service import __version__

STATUS = """\
Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.15-2+b7
Description: a shell
 of many lines

Package: libstdc++6
Status: install ok installed
Architecture: amd64
Source: gcc-12 (12.2.0-14+deb12u1)
Version: 12.2.0-14+deb12u1

Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1.0
"""

RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'

DEBIAN = {
    "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=debian-12",
    "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12&upstream=glibc",
    "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12"
    "&upstream=gcc-12%4012.2.0-14%2Bdeb12u1",
}


def check(text: str) -> None:
    from cyclonedx.schema import SchemaVersion  # whose grammars take a second to build
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


@pytest.mark.parametrize("name", ["cpu", "gpu", "training"])
def test_of_a_lock_file(name: str) -> None:
    """Each package that is locked, with all its hashes, in a document that the schema takes."""
    lock = ROOT / "requirements" / f"{name}.txt"
    done = subprocess.run(
        [sys.executable, "-I", ROOT / "deploy" / "image" / "sbom.py", lock],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    check(done.stdout)
    parts = json.loads(done.stdout)["components"]
    text = lock.read_text()
    assert len(parts) == text.count("==")
    assert sum(len(part["hashes"]) for part in parts) == text.count("--hash=")


def test_of_an_image(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Python's packages, Debian with what of it is installed, models by their hash, NiiVue."""
    (tmp_path / "status").write_text(STATUS)
    (tmp_path / "os-release").write_text(RELEASE)
    (tmp_path / "a.onnx").write_bytes(b"model")
    monkeypatch.setattr(sbom, "DEBIAN_STATUS", tmp_path / "status")
    monkeypatch.setattr(sbom, "DEBIAN_RELEASE", tmp_path / "os-release")
    monkeypatch.setattr(sbom, "MODELS", tmp_path)
    found = sbom.document(sbom.of_image())
    check(json.dumps(found))
    parts = {part["bom-ref"]: part for part in found["components"]}
    assert {name for name in parts if name.startswith("pkg:deb/")} == DEBIAN
    system = parts["debian@12"]
    assert (system["type"], system["name"], system["version"]) == (
        "operating-system",
        "debian",
        "12",
    )
    (niivue,) = (part for name, part in parts.items() if name.startswith("pkg:npm/%40niivue/"))
    vendored = (sbom.NIIVUE / "VERSION").read_text()
    assert f"{niivue['name']} {niivue['version']}," in vendored
    assert niivue["hashes"][0]["content"] in vendored
    assert found["metadata"]["component"]["version"] == __version__
    assert parts["a.onnx"]["type"] == "machine-learning-model"
    names = {part["name"] for part in found["components"]}
    assert {"numpy", "fastapi"} <= names
    assert len(names) >= len({found.metadata["Name"].lower() for found in distributions()})


def test_same_parts_give_the_same_document() -> None:
    one, other = sbom._python("A.b", "1"), sbom._python("c", "2")
    assert sbom.document([one, other]) == sbom.document([other, one, one])
    assert sbom.document([one])["serialNumber"] != sbom.document([other])["serialNumber"]
    assert one["purl"] == "pkg:pypi/a-b@1"
