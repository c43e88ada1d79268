"""What an image, or a lock file, is made of: a bill of materials (CycloneDX 1.6, JSON) on stdout.

    python sbom.py                          the environment, Debian around it, models, NiiVue
    python sbom.py requirements/cpu.txt     a set as it is locked, with the hashes of its files

The same parts give the same document, byte for byte. Uses the standard library alone.
"""

import hashlib
import json
import re
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

NAME = "liver-tumor-segmentation"
DEBIAN_STATUS = Path("/var/lib/dpkg/status")
DEBIAN_RELEASE = Path("/etc/os-release")
ROOT = next(place for place in Path(__file__).resolve().parents if (place / "service").is_dir())
MODELS = ROOT / "models"
NIIVUE = ROOT / "service" / "ui" / "vendor" / "niivue"

Component = dict[str, Any]


def of_image() -> list[Component]:
    """Python's packages, Debian and its packages, the models, and what the page brings."""
    python = [_of_distribution(found) for found in distributions()]
    system = _of_release(DEBIAN_RELEASE.read_text())
    debian = [
        _of_debian(paragraph, system["version"])
        for paragraph in _installed(DEBIAN_STATUS.read_text())
    ]
    models = [_of_model(path) for path in MODELS.glob("*.onnx")]
    return [*python, system, *debian, *models, _of_niivue(NIIVUE)]


def of_lock(text: str) -> list[Component]:
    """The packages of a lock file: each `name==version` with the hashes on the lines after it."""
    entries = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s\\;]+)(.*(?:\n {4}.*)*)", text, re.M)
    return [
        _python(name, version)
        | {
            "hashes": [
                {"alg": "SHA-256", "content": digest}
                for digest in re.findall(r"--hash=sha256:([0-9a-f]{64})", rest)
            ]
        }
        for name, version, rest in entries
    ]


def document(components: list[Component]) -> dict[str, Any]:
    """Sorted, each part once, with a serial number that follows from the parts."""
    parts = sorted({part["bom-ref"]: part for part in components}.values(), key=_reference)
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(parts, sort_keys=True))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "name": NAME,
                "version": _version(),
                "bom-ref": NAME,
            }
        },
        "components": parts,
    }


def _version() -> str:
    """The application's own; its package is not installed, and may lack what it imports."""
    text = (ROOT / "service" / "__init__.py").read_text()
    return str(re.findall(r'^__version__ = "(.*)"$', text, re.MULTILINE)[0])


def _reference(part: Component) -> str:
    return str(part["bom-ref"])


def _component(kind: str, name: str, version: str, purl: str) -> Component:
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _python(name: str, version: str) -> Component:
    normal = re.sub(r"[-_.]+", "-", name).lower()
    return _component("library", normal, version, f"pkg:pypi/{normal}@{version}")


def _of_distribution(found: Distribution) -> Component:
    part = _python(found.metadata["Name"], found.version)
    expression = found.metadata.get("License-Expression")
    if expression is not None:
        return part | {"licenses": [{"expression": expression}]}
    named = [
        text.rpartition(" :: ")[2]
        for text in found.metadata.get_all("Classifier") or ()
        if text.startswith("License :: ")
    ]
    return part | {"licenses": [{"license": {"name": name}} for name in named]} if named else part


def _installed(status: str) -> Iterator[dict[str, str]]:
    """The paragraphs of dpkg's status file, of what is installed."""
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+): (.*)$", paragraph, re.M))
        if fields.get("Status", "").endswith(" installed"):
            yield fields


def _of_release(text: str) -> Component:
    """The operating system, as /etc/os-release has it."""
    fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', text, re.MULTILINE))
    name, version = fields["ID"], fields["VERSION_ID"]
    return {
        "type": "operating-system",
        "bom-ref": f"{name}@{version}",
        "name": name,
        "version": version,
    }


def _of_debian(fields: dict[str, str], release: str) -> Component:
    """Scanners find its advisories by the release and by the source package (`upstream`)."""
    name, version = fields["Package"], fields["Version"]
    purl = (
        f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}"
        f"?arch={fields['Architecture']}&distro=debian-{release}"
    )
    if "Source" in fields:  # `name`, or `name (version)` where that differs
        source = re.sub(r" \((.*)\)$", r"@\1", fields["Source"])
        purl += f"&upstream={quote(source, safe='')}"
    return _component("library", name, version, purl)


def _of_niivue(folder: Path) -> Component:
    """The page's viewer, by its file VERSION: `@niivue/niivue 0.69.0, from the npm registry`."""
    name, version = (folder / "VERSION").read_text().split(",")[0].split()
    digest = hashlib.sha256((folder / "niivue.min.js").read_bytes()).hexdigest()
    part = _component("library", name, version, f"pkg:npm/{quote(name)}@{quote(version)}")
    return part | {"hashes": [{"alg": "SHA-256", "content": digest}]}


def _of_model(path: Path) -> Component:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "type": "machine-learning-model",
        "bom-ref": path.name,
        "name": path.name,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def main(arguments: list[str]) -> None:
    components = of_lock(Path(arguments[0]).read_text()) if arguments else of_image()
    json.dump(document(components), sys.stdout, indent=1)


if __name__ == "__main__":
    main(sys.argv[1:])
