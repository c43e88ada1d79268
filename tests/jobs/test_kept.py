"""What is made on demand of what a job keeps is what it would have been at once."""

import io
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dicom_files import series, to_bytes
from encode.test_outputs import result_of
from fakes import FakeSegmenter
from highdicom import Volume
from http_helpers import slice_png
from multiframe_files import enhanced
from test_resample import CASES, middle_thresholds, scanned

from service import pipeline
from service.errors import NoDicomSource
from service.jobs.kept import Kept, keep, kept_instances
from service.pipeline import Options, Result
from service.settings import Settings
from service.store import Store

MADE_AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def irregular(name: str) -> Result:
    model = FakeSegmenter(middle_thresholds)
    return pipeline.run(scanned(*CASES[name]).files, Options(resample=True), model, Settings())


SOURCES: dict[str, Callable[[Volume], Result]] = {
    "single frames": lambda volume: result_of([to_bytes(one) for one in series(volume)]),
    "sagittal": lambda volume: result_of(
        [to_bytes(one) for one in series(volume.to_patient_orientation("LFP"))]
    ),
    "enhanced": lambda volume: result_of([to_bytes(enhanced(volume))]),
    "tilted": lambda _: irregular("12 degrees"),
    "uneven": lambda _: irregular("changing spacing"),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(None, tmp_path, tmp_path, 0)


@pytest.mark.parametrize("name", SOURCES)
def test_objects_on_demand(store: Store, clean_volume: Volume, name: str) -> None:
    """Label map and pictures, byte for byte; and those that are kept where they are asked for."""
    result = SOURCES[name](clean_volume)
    keep(store, "a" * 32, result, MADE_AT, ("seg", "labelmap", "overlays"))
    kept = Kept(store, "a" * 32)
    ((_, labelmap),) = pipeline.dicom_object(result, "labelmap", MADE_AT)
    assert kept.labelmap_dcm() == labelmap
    overlays = dict(pipeline.dicom_object(result, "overlays", MADE_AT))
    with zipfile.ZipFile(io.BytesIO(kept.overlays_zip())) as archive:
        found = {f"overlays/{name}": archive.read(name) for name in archive.namelist()}
    assert found == overlays
    assert kept.overlays_zip() == kept.overlays_zip()
    instances = kept_instances(store, "a" * 32, ("seg", "labelmap", "overlays"))
    assert [one.object_name for one in instances] == ["seg", "labelmap"] + ["overlays"] * len(
        overlays
    )
    assert {one.data() for one in instances[2:]} == set(overlays.values())


def test_an_image_has_none(store: Store) -> None:
    """Without a DICOM source there are no DICOM objects."""
    keep(store, "b" * 32, result_of([slice_png()]), MADE_AT)
    kept = Kept(store, "b" * 32)
    for make in (kept.labelmap_dcm, kept.overlays_zip):
        with pytest.raises(NoDicomSource):
            make()
