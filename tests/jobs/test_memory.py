"""A real process whose memory is bounded outlives a volume that is too large for it."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import series, to_bytes, to_zip, zip_of
from http_helpers import PNG, ZIP, slice_png
from pydicom.uid import RLELossless

from reliability.process import Answer, Server
from service.phantom import Phantom

URL = "/v1/segmentations"
HEADROOM_BYTES = 300 * 1024**2
"""Above what the process takes idle; enough for a batch, less than one copy of the volume."""


@pytest.fixture(scope="module")
def huge() -> bytes:
    """A volume of 367 MB that is air everywhere, as a NIfTI file."""
    empty = np.zeros((512, 512, 700), np.int16)
    return nibabel.Nifti1Image(empty, np.diag([0.8, 0.8, 1.0, 1.0])).to_bytes()


@pytest.fixture(scope="module")
def huge_series() -> bytes:
    """As many slices of air as DICOM, compressed: large only once its pixels are decoded."""
    (one,) = series(Phantom.draw(7).sample(1, 512, noise_hu=0)[0])
    one.PixelData = np.zeros((512, 512), np.int16).tobytes()
    one.compress(RLELossless)
    files = []
    for index in range(700):
        one.InstanceNumber = index + 1
        one.ImagePositionPatient = [0, 0, index]
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{index + 1}"
        files.append(to_bytes(one))
    return to_zip(files)


def memory_of(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def post(server: Server, body: bytes, headers: dict = ZIP, path: str = URL) -> Answer:
    return server.ask("POST", path, body, headers | {"Prefer": "wait=60"})


def test_a_volume_too_large_for_memory(tmp_path: Path, huge: bytes, huge_series: bytes) -> None:
    """It is 507, in whichever form it comes; the process lives and works on what it can hold."""
    small = zip_of(series(Phantom.draw(7).sample(6, 64, seed=1)[0]))
    with Server.start(tmp_path / "idle", threads=1) as idle:
        bound = memory_of(idle) + HEADROOM_BYTES
    with Server.start(tmp_path / "data", threads=1, max_memory_bytes=bound) as server:
        assert post(server, small).status == 201
        packed = gzip.compress(huge, 1)
        failed = []
        for body, headers, path in (
            (huge_series, ZIP, URL),
            (packed, {"Content-Type": "application/gzip"}, URL),
            (to_zip([huge]), ZIP, URL),
            (packed, {"Content-Type": "application/gzip"}, "/v1/segment"),
            (huge_series, ZIP, "/v1/segment"),
        ):
            answer = post(server, body, headers, path)
            assert (answer.status, answer.json()["code"]) == (507, "out_of_memory"), answer
            failed += [answer.headers["location"]] if "location" in answer.headers else []
            assert server.process.poll() is None
            assert post(server, small).status == 201
            assert post(server, slice_png(), PNG).status == 201
        (address,) = failed  # the others were refused before there was a job
        job = server.ask("GET", address).json()
        assert (job["status"], job["error"]["code"]) == ("failed", "out_of_memory")
        assert memory_of(server) < bound
        assert server.terminate(30) == 0
