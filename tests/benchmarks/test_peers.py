"""The servers compared with do the same work."""

import numpy as np
import pytest
from dicom_files import series, zip_of
from highdicom import Volume

from benchmarks.durable import phantom_png
from benchmarks.peers.work import BATCH_SLICES, Model, decode, summary, threads_each
from service import pipeline
from service.decode import decode as decode_here
from service.decode.options import DecodeOptions
from service.inference.batching import Batcher
from service.inference.postprocess import Rules
from service.inference.session import ModelSession
from service.settings import Settings


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


def test_a_series_is_the_same_volume(
    model: Model, clean_volume: Volume, options: DecodeOptions
) -> None:
    """Slices, their order, their Hounsfield units and the voxel's size are those of the service."""
    data = zip_of(series(clean_volume))
    here, there = decode_here([data], options), decode(data, model.window)
    np.testing.assert_array_equal(there.hu, np.asarray(here.volume.array))
    assert there.voxel_ml == pytest.approx(here.volume.voxel_volume / 1000)


def test_an_image_gets_the_same_labels(model: Model) -> None:
    """The model sees the picture as the service shows it, whatever is in its batch; the peers have
    no rules after it.
    """
    settings = Settings(device="cpu")
    data = phantom_png(128)
    session = ModelSession.open(settings.model, "cpu", settings.threads)
    batcher = Batcher(session, settings.batch_slices)
    without = pipeline.Options(rules=Rules(False, False, False, False))
    result = pipeline.run([data], without, batcher, settings)
    batcher.close()
    scan = decode(data, model.window)
    several = model.label(np.repeat(scan.hu, BATCH_SLICES + 1, axis=0))
    assert len(several) == BATCH_SLICES + 1
    here = result.measured.findings.liver.voxels
    assert summary(several[-1:], None) == summary(model.label(scan.hu), None)
    assert summary(several[-1:], None)["liver_voxels"] == here


def test_volumes_are_counted() -> None:
    """The liver is the organ with its tumours; an image has no volumes."""
    labels = np.array([[[0, 1, 1, 2]]], dtype=np.uint8)
    counts = {"liver_voxels": 3, "tumor_voxels": 1}
    assert summary(labels, 0.5) == {**counts, "liver_ml": 1.5, "tumor_ml": 0.5}
    assert summary(labels, None) == {**counts, "liver_ml": None, "tumor_ml": None}


def test_workers_share_the_cores() -> None:
    """One worker takes them all; several take them once together."""
    assert threads_each(1) == 0
    assert threads_each(10_000) == 1
