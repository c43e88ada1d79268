"""Which files of a folder make a case, as LiTS and the Medical Segmentation Decathlon lay them out.

LiTS: `volume-N.nii` and `segmentation-N.nii`, also gzipped, in the folder or below it. Decathlon:
`dataset.json` with `imagesTr` and `labelsTr`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from training.data.problems import Problem

_LITS_NAME = re.compile(r"(volume|segmentation)-(.+?)\.nii(\.gz)?")

_TUMOR_NAMES = ("tumour", "tumor", "cancer", "lesion")
"""What a description may call the tumour, alone or among other words."""


@dataclass(frozen=True)
class Pair:
    """An image and its labels on disk."""

    name: str
    image: Path
    labels: Path


def find_pairs(folder: Path) -> tuple[list[Pair], list[Problem]]:
    """The whole pairs of a LiTS or Decathlon folder, by name, and what is wrong with the others."""
    if not folder.is_dir():
        return [], [Problem(str(folder), "expected a folder with the data, found none")]
    description = folder / "dataset.json"
    pairs, problems = _decathlon(folder, description) if description.exists() else _lits(folder)
    if not pairs and not problems:
        expected = "volume-N.nii with segmentation-N.nii, dataset.json, or manifest.csv"
        problems = [Problem(folder.name, f"expected {expected}, found none")]
    return sorted(pairs, key=lambda pair: pair.name), problems


def _lits(folder: Path) -> tuple[list[Pair], list[Problem]]:
    files: dict[str, dict[str, Path]] = {"volume": {}, "segmentation": {}}
    problems = []
    for path in sorted(folder.rglob("*.nii*")):
        match = _LITS_NAME.fullmatch(path.name)
        if match and path.is_file():
            kind, number = match[1], match[2]
            if number in files[kind]:
                problems.append(Problem(path.name, "expected each volume once, found it twice"))
            files[kind][number] = path
    images, labels = files["volume"], files["segmentation"]
    for number in sorted(images.keys() - labels.keys()):
        problems.append(Problem(f"volume-{number}", "the mask is missing"))
    for number in sorted(labels.keys() - images.keys()):
        problems.append(Problem(f"segmentation-{number}", "the volume is missing"))
    pairs = [Pair(f"volume-{n}", images[n], labels[n]) for n in images.keys() & labels.keys()]
    return pairs, problems


def _decathlon(folder: Path, description: Path) -> tuple[list[Pair], list[Problem]]:
    try:
        fields = json.loads(description.read_text())
        entries = [(folder / item["image"], folder / item["label"]) for item in fields["training"]]
        meanings = {int(value): str(name).lower() for value, name in fields["labels"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        expected = "expected labels and a list of training images, found none to read"
        return [], [Problem(description.name, expected)]
    if not _are_liver_and_tumor(meanings):
        found = ", ".join(f"{value} {name}" for value, name in sorted(meanings.items()))
        return [], [Problem(description.name, f"expected 1 liver and 2 tumour, found {found}")]
    pairs: dict[str, Pair] = {}
    problems = []
    for image, labels in entries:
        name = image.name.split(".nii")[0]
        if name in pairs:
            problems.append(Problem(name, "expected each image once, found it twice"))
        missing = [
            what for what, path in (("image", image), ("mask", labels)) if not path.is_file()
        ]
        problems += [Problem(name, f"the {what} is missing") for what in missing]
        if not missing:
            pairs[name] = Pair(name, image, labels)
    named = {path.resolve() for entry in entries for path in entry}
    for path in sorted([*folder.glob("imagesTr/*.nii*"), *folder.glob("labelsTr/*.nii*")]):
        if path.resolve() not in named and not path.name.startswith("."):
            problems.append(Problem(path.name, f"{description.name} does not name it"))
    return list(pairs.values()), problems


def _are_liver_and_tumor(meanings: Mapping[int, str]) -> bool:
    """Whether the names of the labels, in small letters, are those of the task; 2 may be absent."""

    def is_tumor(value: int) -> bool:
        return any(name in meanings[value] for name in _TUMOR_NAMES)

    if set(meanings) - {0, 1, 2} or "liver" not in meanings.get(1, "") or is_tumor(1):
        return False
    return 2 not in meanings or is_tumor(2)
