"""Phantoms laid out as LiTS: to try every command without a patient's data, and for the tests."""

from pathlib import Path

from service.phantom import Phantom
from service.phantom_files import nifti_bytes

TUMOR_FREE_EVERY = 4
"""Of so many cases one has no lesion, as in real data."""

_CASE_BITS = 20
"""Cases of one seed, as a power of two."""


def write_phantoms(folder: Path, cases: int, slices: int, size: int, seed: int = 0) -> None:
    """Write `volume-N.nii` and `segmentation-N.nii` of so many cases, [slices, size, size].

    No case of one seed is a case of another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(cases):
        lesions = 0 if number % TUMOR_FREE_EVERY == TUMOR_FREE_EVERY - 1 else 3
        own = (seed << _CASE_BITS) + number
        phantom = Phantom.draw(own, lesions)
        hu, labels = phantom.sample(slices, size, own)
        (folder / f"volume-{number}.nii").write_bytes(nifti_bytes(hu))
        (folder / f"segmentation-{number}.nii").write_bytes(nifti_bytes(labels))
