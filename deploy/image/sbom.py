"""What an image, or a lock file, is made of: a bill of materials (CycloneDX 1.6, JSON) on stdout.

    python sbom.py                          the environment and the Debian packages around it
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

NAME = "liver-tumor-segmentation"
DEBIAN_STATUS = Path("/var/lib/dpkg/status")
MODELS = Path(__file__).parent / "models"

Component = dict[str, Any]


def of_image() -> list[Component]:
    """Python's packages, Debian's, and the models."""
    python = [_of_distribution(found) for found in distributions()]
    debian = [_of_debian(paragraph) for paragraph in _installed(DEBIAN_STATUS.read_text())]
    return python + debian + [_of_model(path) for path in MODELS.glob("*.onnx")]


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
        "metadata": {"component": {"type": "application", "name": NAME, "bom-ref": NAME}},
        "components": parts,
    }


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


def _of_debian(fields: dict[str, str]) -> Component:
    name, version, machine = fields["Package"], fields["Version"], fields["Architecture"]
    quoted = version.replace("+", "%2B").replace(":", "%3A")
    purl = f"pkg:deb/debian/{name}@{quoted}?arch={machine}"
    return _component("library", name, version, purl)


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
