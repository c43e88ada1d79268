"""All DICOM objects of a result, and what the validators say of them."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from pydicom import Dataset

from service import pipeline
from service.encode.objects import FILES
from service.pipeline import Result

BINARIES = Path(sys.executable).parent


def objects_of(result: Result) -> dict[str, bytes]:
    """Every object that the service can write, by file name."""
    return {
        name: content for kind in FILES for name, content in pipeline.dicom_object(result, kind)
    }


def write(files: dict[str, bytes], folder: Path) -> list[Path]:
    paths = []
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        paths.append(path)
    return paths


def object_errors(paths: Iterable[Path]) -> list[str]:
    """What dciodvfy calls an error in each file by itself."""
    errors = []
    for path in paths:
        checked = subprocess.run(
            [BINARIES / "dciodvfy", path], capture_output=True, text=True, check=False
        )
        lines = checked.stderr.splitlines()
        assert lines, f"dciodvfy said nothing of {path.name}"
        errors += [f"{path.name}: {line}" for line in lines if line.startswith("Error")]
    return errors


def entity_errors(paths: Iterable[Path], study_uid: str) -> list[str]:
    """What dcentvfy calls an error among files that belong together: objects and sources.

    Not that an RTSTRUCT names its study as an instance: PS3.3 C.8.8.5 has RT Referenced Study
    Sequence do so (type 1: Referenced SOP Instance UID), and no file of a study is that instance.
    """
    checked = subprocess.run(
        [BINARIES / "dcentvfy", *paths], capture_output=True, text=True, check=False
    )
    lines = (checked.stdout + checked.stderr).splitlines()
    study = f"Missing SOPInstanceUID that was referenced - {study_uid} "
    return [line for line in lines if line.startswith("Error") and study not in line]


def codes_in(item: Dataset) -> str:
    """The concept of a content item."""
    return str(item.ConceptNameCodeSequence[0].CodeValue)
