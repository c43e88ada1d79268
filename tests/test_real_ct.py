"""The model of the repository on a real CT, however the CT lies in its files."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import highdicom
import numpy as np
import pytest
from dicom_files import series, to_bytes

from service import pipeline
from service.inference.batching import Batcher
from service.inference.session import ModelSession
from service.inference.work import Labelled
from service.pipeline import Options, Result
from service.settings import Settings

pytestmark = pytest.mark.real_ct


class Remembering:
    """The model, which labels a batch again only where it is not the same to the last byte.

    What orientations change is what the model is handed; its answer to the same takes 10 s a CT.
    """

    lanes = 1
    fills_batches = False

    def __init__(self, model: ModelSession) -> None:
        self.contract, self.sha256 = model.contract, model.sha256
        self.provider, self.device = model.provider, model.device
        self._model = model
        self._known: dict[tuple[tuple[int, ...], bytes], Labelled] = {}

    def run(self, hu: np.ndarray) -> Labelled:
        key = (hu.shape, hu.tobytes())
        if key not in self._known:
            self._known[key] = self._model.run(hu)
        return self._known[key]


@pytest.fixture(scope="module")
def segmenter(model: ModelSession) -> Iterator[Batcher]:
    batcher = Batcher(Remembering(model), Settings().batch_slices)
    yield batcher
    batcher.close()


@pytest.fixture(scope="module")
def result(real_ct: Path, segmenter: Batcher) -> Result:
    return pipeline.run([real_ct.read_bytes()], Options(), segmenter, Settings())


def test_liver_has_the_size_of_a_liver(result: Result) -> None:
    """600 to 3,000 mL, on the patient's right, in one piece of contours a slice or a few."""
    findings = result.measured.findings
    assert findings.liver.volume_ml is not None
    assert 600 < findings.liver.volume_ml < 3000
    labels = result.segmentation.labels
    centre = labels.map_indices_to_reference(np.argwhere(np.asarray(labels.array) > 0)).mean(axis=0)
    body = np.asarray(result.segmentation.scan.volume.array) > -300
    middle = labels.map_indices_to_reference(np.argwhere(body)[::50]).mean(axis=0)
    assert centre[0] < middle[0] - 20
    assert centre[1] < middle[1]
    assert any(contour.structure == "liver" for contour in result.contours)


@pytest.mark.filterwarnings("ignore:The string:UserWarning")  # of the name that this CT has
def test_seg_reads_back_on_the_source_grid(result: Result) -> None:
    """highdicom reads the SEG of the real CT back, voxel for voxel."""
    seg = highdicom.seg.segread(io.BytesIO(pipeline.dicom_seg(result)))
    source = result.segmentation.scan.volume
    found = seg.get_volume(combine_segments=True).match_geometry(source)
    ids = np.asarray(result.measured.lesion_ids.array)
    expected = np.where(ids > 0, ids + 1, np.asarray(result.segmentation.labels.array) == 1)
    assert np.array_equal(found.array, expected)


@pytest.mark.parametrize(
    "orientation",
    ["FAL", "FPR", "LFP"],
    ids=["upside down", "feet first", "sagittal"],
)
def test_rewritten_ct_gives_the_same_labels(
    result: Result, segmenter: Batcher, orientation: str
) -> None:
    """The same anatomy in other files: the labels are the same, voxel for voxel."""
    volume = result.segmentation.scan.volume.to_patient_orientation(orientation)
    files = [to_bytes(dataset) for dataset in series(volume)]
    again = pipeline.run(files, Options(), segmenter, Settings())
    turned = again.segmentation.labels.to_patient_orientation("HPL").array
    assert np.array_equal(turned, result.segmentation.labels.array)


def test_single_slice_of_it(real_ct: Path, result: Result, segmenter: Batcher) -> None:
    """One slice alone is labelled as it is in the volume, before the volume's rules."""
    archive = zipfile.ZipFile(real_ct)
    index = 30
    uid = result.segmentation.scan.source.sop_instance_uids[index]
    for name in archive.namelist():
        data = archive.read(name)
        if uid.encode() in data:
            break
    alone = pipeline.run([data], Options(), segmenter, Settings())
    labels = np.asarray(alone.segmentation.labels.array[0]) > 0
    whole = np.asarray(result.segmentation.labels.array[index]) > 0
    assert 2 * (labels & whole).sum() / (labels.sum() + whole.sum()) > 0.95
