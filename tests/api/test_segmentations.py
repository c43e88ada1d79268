"""`/v1/segmentations` from outside: what one service answers."""

import gzip
import io
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import highdicom
import nibabel
import numpy as np
import pytest
from dicom_files import series, to_bytes, zip_of
from fakes import FakeSegmenter, by_threshold
from fastapi.testclient import TestClient
from highdicom import Volume
from http_helpers import PNG, ZIP, problem, running, slice_png

from service.jobs.kept import Kept
from service.phantom_files import nifti_bytes

URL = "/v1/segmentations"
WAIT_S = 30


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One service for the tests that leave nothing behind that could disturb another."""
    folder = tmp_path_factory.mktemp("data")
    with running(folder, FakeSegmenter(by_threshold)) as client:
        yield client


@pytest.fixture(scope="module")
def study(clean_volume: Volume) -> bytes:
    return zip_of(series(clean_volume))


@pytest.fixture(scope="module")
def done(shared: TestClient, study: bytes) -> dict:
    """The phantom's segmentation, finished."""
    response = shared.post(URL, content=study, headers=ZIP)
    assert response.status_code == 201, response.text
    return response.json()


def test_done_within_the_wait(shared: TestClient, done: dict, study: bytes) -> None:
    """201 with the resource, whose numbers are those of the stateless answer."""
    assert done["status"] == "succeeded"
    assert done["progress"] == {
        "stage": "done",
        "fraction": 1.0,
        "slices_done": 36,
        "slices_total": 36,
    }
    assert done["created_at"] < done["finished_at"]
    assert done["error"] is None
    assert {"read", "label", "clean_up", "measure", "trace"} <= set(done["timings_s"])
    stateless = shared.post("/v1/segment", content=study, headers=ZIP).json()
    for part in ("source", "model", "findings", "warnings", "postprocessing"):
        assert done[part] == stateless[part]
    contours = shared.get(done["links"]["contours"]).json()
    assert contours == {"contours": stateless["contours"]}
    assert shared.get(done["links"]["self"]).json() == done


def test_parts(shared: TestClient, done: dict, clean_volume: Volume) -> None:
    """Masks as NIfTI, SEG and PNG are the same labels; the image lies on the mask's grid."""
    links = done["links"]
    assert set(links) == {
        "self", "events", "mask_nifti", "mask_dicom", "image_nifti", "mask_png", "overlay_png",
        "preview", "contours", "report_dicom", "rtstruct", "overlays", "report_fhir",
    }  # fmt: skip
    get = {name: shared.get(address.replace("{slice}", "20")) for name, address in links.items()}
    assert {response.status_code for response in get.values()} == {200}
    mask = nibabel.Nifti1Image.from_bytes(gzip.decompress(get["mask_nifti"].content))
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(get["image_nifti"].content))
    labels = np.asarray(mask.dataobj)
    np.testing.assert_array_equal(mask.affine, image.affine)
    hu = np.asarray(image.dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(hu, np.asarray(clean_volume.array))
    expected = by_threshold(np.asarray(image.dataobj))
    assert (labels > 0).sum() == pytest.approx((expected > 0).sum(), rel=0.01)
    one = cv2.imdecode(np.frombuffer(get["mask_png"].content, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(one, labels[:, :, 20].T)
    seg = highdicom.seg.segread(io.BytesIO(get["mask_dicom"].content))
    assert seg.ContentDate == done["created_at"][:10].replace("-", "")
    overlay = cv2.imdecode(np.frombuffer(get["overlay_png"].content, np.uint8), cv2.IMREAD_COLOR)
    assert overlay.shape[:2] == one.shape
    assert cv2.imdecode(np.frombuffer(get["preview"].content, np.uint8), 1).shape[0] > 300


def test_slices_out_of_range(shared: TestClient, done: dict) -> None:
    """A slice that is not there is 404, a number that is none 400."""
    for kind in ("masks", "overlays"):
        assert shared.get(f"{URL}/{done['id']}/{kind}/35.png").status_code == 200
        for number in ("36", "-1", "9" * 30):
            problem(shared.get(f"{URL}/{done['id']}/{kind}/{number}.png"), 404, "not_found")
        for word in ("x", "1.5"):
            problem(shared.get(f"{URL}/{done['id']}/{kind}/{word}.png"), 400, "invalid_parameter")


@pytest.mark.parametrize("unknown", ["0" * 32, "x", "..%2f..", "%00", "A" * 5000])
def test_unknown_ids(shared: TestClient, unknown: str) -> None:
    """An id that was never given is 404 for every operation."""
    for path in ("", "/mask.nii.gz", "/mask.dcm", "/image.nii.gz", "/masks/0.png",
                 "/overlays/0.png", "/preview.png", "/contours"):  # fmt: skip
        problem(shared.get(f"{URL}/{unknown}{path}"), 404, "not_found")
    problem(shared.post(f"{URL}/{unknown}/cancel"), 404, "not_found")
    problem(shared.delete(f"{URL}/{unknown}"), 404, "not_found")


def test_no_seg_of_an_image(shared: TestClient) -> None:
    """An image's result has all parts but the DICOM one."""
    done = shared.post(URL, content=slice_png(), headers=PNG).json()
    problem(shared.get(f"{URL}/{done['id']}/mask.dcm"), 422, "no_dicom_source")
    for part in ("mask.nii.gz", "image.nii.gz", "masks/0.png", "overlays/0.png", "preview.png"):
        assert shared.get(f"{URL}/{done['id']}/{part}").status_code == 200


def test_image_of_a_nifti_is_the_file(shared: TestClient, clean_volume: Volume) -> None:
    """For a NIfTI source in another orientation image and mask lie on the file's own grid."""
    data = nifti_bytes(clean_volume.to_patient_orientation("FPR"))
    source = nibabel.Nifti1Image.from_bytes(data)
    done = shared.post(URL, content=data, headers={"Content-Type": "application/gzip"}).json()
    content = shared.get(done["links"]["image_nifti"]).content
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content))
    np.testing.assert_array_equal(image.affine, source.affine)
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(source.dataobj))


def test_whole_images_are_written_two_at_a_time(
    shared: TestClient, done: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ask for a source image at once, two volumes at most are in memory."""
    lock, now, most = threading.Lock(), 0, 0

    def counted(_: Kept) -> bytes:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return b""

    monkeypatch.setattr(Kept, "image_nii_gz", counted)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(shared.get, [done["links"]["image_nifti"]] * 8))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert most == 2


def test_one_corrupt_slice_fails_the_job(shared: TestClient, clean_volume: Volume) -> None:
    """Pixels that cannot be decoded are found by the job: 422, naming the slice."""
    datasets = series(clean_volume)
    files = [to_bytes(dataset) for dataset in datasets]
    files[7] = files[7][:-500]
    upload = [("files", (str(number), data)) for number, data in enumerate(files)]
    answer = problem(shared.post(URL, files=upload), 422, "unreadable_file")
    assert "slice 8" in answer["detail"]


def test_simultaneous_repeats_are_one_job(shared: TestClient) -> None:
    """Eight requests with one key at the same moment: one segmentation, eight equal answers."""
    headers = PNG | {"Idempotency-Key": "at-once"}
    before = len(shared.get(URL, params={"limit": 200}).json()["items"])
    answers: list[str] = []

    def post() -> None:
        response = shared.post(URL, content=slice_png(150), headers=headers)
        answers.append(response.json()["id"])

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(answers) == 8
    assert len(set(answers)) == 1
    assert len(shared.get(URL, params={"limit": 200}).json()["items"]) == before + 1


@pytest.mark.parametrize("key", ["", " ", "a b", "ä".encode(), "x" * 256])
def test_bad_idempotency_keys(shared: TestClient, key: str | bytes) -> None:
    """A key is 1 to 255 printable ASCII characters."""
    response = shared.post(URL, content=slice_png(), headers=PNG | {"Idempotency-Key": key})
    problem(response, 400, "invalid_parameter")


def test_finished_job_keeps_no_upload(shared: TestClient, done: dict) -> None:
    """What was sent is deleted once its result is there."""
    kept = shared.app.state.resources.settings.store_folder
    (run,) = kept.glob(f"{done['id']}-*/*")
    assert {path.name for path in run.iterdir()} == {
        "result.json", "contours.json", "mask.nii.gz", "mask.dcm",
        "report.dcm", "rtstruct.dcm", "report.fhir.json", "preview.png",
        "scene.json", "headers.json", "image.int16", "labels.uint8",
    }  # fmt: skip


def test_allow_names_every_method(shared: TestClient, done: dict) -> None:
    """405 says all that the address takes."""
    assert shared.put(URL).headers["allow"] == "GET, POST"
    assert shared.put(done["links"]["self"]).headers["allow"] == "DELETE, GET"
    assert "GET" in shared.put("/openapi.json").headers["allow"]


def test_no_redirects(shared: TestClient) -> None:
    """An address with one slash too many is none of the API's; nobody is sent elsewhere."""
    problem(shared.get(f"{URL}/", follow_redirects=False), 404, "not_found")


def test_problems_are_counted(shared: TestClient) -> None:
    """`/metrics` says how many problem documents of each code were sent."""

    def count() -> float:
        found = re.search(
            r'lts_problems_total{code="not_found"} (\S+)', shared.get("/metrics").text
        )
        return float(found[1]) if found else 0.0

    before = count()
    problem(shared.get("/v1/models/another"), 404, "not_found")
    assert count() == before + 1
