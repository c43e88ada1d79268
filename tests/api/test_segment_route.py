"""`POST /v1/segment` from outside: every way in, every way out, every refusal."""

import base64
import gzip
import io
import json
import threading
import zipfile
from pathlib import Path

import cv2
import highdicom
import numpy as np
import pytest
from dicom_files import series, to_bytes, zip_of
from fakes import FakeSegmenter, by_threshold, make_contract
from fastapi.testclient import TestClient
from highdicom import Volume
from http_helpers import PNG, running
from PIL import Image
from pydicom.uid import MRImageStorage

from service.api.app import create_app
from service.errors import InvalidModel
from service.inference.contract import LesionLimits
from service.phantom import Phantom
from service.phantom_files import PHANTOM_NAME, nifti_bytes
from service.settings import Settings

URL = "/v1/segment"
ZIP = {"Content-Type": "application/zip"}


@pytest.fixture(scope="module")
def study(phantom: Phantom) -> bytes:
    """A zip of the phantom's series."""
    return zip_of(series(phantom.sample(36, 96, noise_hu=0)[0]))


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def slice_png() -> bytes:
    """Grey values that the model's window turns into 108 HU (liver) and 52 HU (tumour)."""
    grey = np.full((64, 64), 60, np.uint8)
    grey[10:50, 5:45] = 189
    grey[20:26, 10:20] = 117
    return png(grey)


def test_answer_has_everything(client: TestClient, study: bytes, phantom: Phantom) -> None:
    """Volumes of the phantom, its lesions and contours, the model that answered, the timings."""
    response = client.post(URL, content=study, headers=ZIP)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["source"]["format"] == "dicom"
    assert answer["source"]["slices"] == len(answer["source"]["sop_instance_uids"]) == 36
    assert answer["model"]["provider"] == "FakeExecutionProvider"
    findings = answer["findings"]
    assert findings["liver"]["volume_ml"] == pytest.approx(phantom.liver_ml, rel=0.02)
    assert findings["tumor"]["volume_ml"] == pytest.approx(phantom.tumor_ml, rel=0.06)
    assert [lesion["id"] for lesion in findings["lesions"]] == [1, 2, 3]
    assert findings["burden"] == pytest.approx(
        findings["tumor"]["volume_ml"] / findings["liver"]["volume_ml"]
    )
    lesion = findings["lesions"][0]
    uids = answer["source"]["sop_instance_uids"]
    assert lesion["sop_instance_uids"] == uids[lesion["first_slice"] : lesion["last_slice"] + 1]
    contour = next(item for item in answer["contours"] if item["lesion_id"] == 1)
    assert contour["sop_instance_uid"] == uids[contour["slice"]]
    assert len(contour["polygons"][0]["exterior_mm"]) == len(contour["polygons"][0]["exterior_px"])
    assert set(answer["timings_s"]) == {"inspect", "read", "label", "clean_up", "measure", "trace"}
    assert answer["mask"] is None
    assert "diagnosis" in answer["disclaimer"]


def test_every_way_in_gives_the_same(client: TestClient, clean_volume: Volume) -> None:
    """Files of a form, a zip in a form, a plain zip, NIfTI plain and gzipped: one answer."""
    files = [to_bytes(dataset) for dataset in series(clean_volume)]
    archive = zip_of(series(clean_volume))
    nifti = nifti_bytes(clean_volume)
    responses = [
        client.post(URL, files=[("files", ("any name", data)) for data in files]),
        client.post(URL, files=[("files", ("x.nii", archive))]),
        client.post(URL, content=archive, headers={"Content-Type": "application/octet-stream"}),
        client.post(
            URL, content=gzip.compress(nifti), headers={"Content-Type": "application/gzip"}
        ),
        client.post(URL, content=nifti, headers={"Content-Type": "image/png"}),
    ]
    assert [response.status_code for response in responses] == [200] * 5
    first, *others = (numbers_of(response.json()) for response in responses)
    for other in others:
        # Spacings are decimal strings in DICOM, 32-bit numbers in NIfTI.
        assert other == pytest.approx(first, rel=1e-5, abs=1e-4)


def numbers_of(answer: dict[str, object]) -> list[float]:
    """Every number of findings and contours, in their order."""

    def numbers(value: object) -> list[float]:
        if isinstance(value, dict):
            return [number for item in value.values() for number in numbers(item)]
        if isinstance(value, list):
            return [number for item in value for number in numbers(item)]
        return [float(value)] if isinstance(value, int | float) else []

    return [*numbers(answer["findings"]), *numbers(answer["contours"])]


def test_image_with_mask(client: TestClient) -> None:
    """A PNG gives areas and a PNG mask; volumes are null and the result says why."""
    response = client.post(
        URL, params={"include": "mask"}, content=slice_png(), headers={"Content-Type": "image/png"}
    )
    answer = response.json()
    assert answer["findings"]["liver"]["area_px"] == 1600
    assert answer["findings"]["tumor"]["area_px"] == 60
    assert answer["findings"]["liver"]["volume_ml"] is None
    assert {item["code"] for item in answer["warnings"]} == {"window_assumed", "spacing_unknown"}
    mask = cv2.imdecode(
        np.frombuffer(base64.b64decode(answer["mask"]["base64"]), np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert answer["mask"]["media_type"] == "image/png"
    assert (mask[20:26, 10:20] == 2).all()
    assert (mask == 1).sum() == 1540


def test_parameters_in_the_form_or_the_query(client: TestClient) -> None:
    """The same names in both; a spacing gives areas in square millimetres."""
    upload = {"files": ("slice", slice_png())}
    by_form = client.post(URL, files=upload, data={"pixel_spacing_mm": "0.5"})
    by_query = client.post(URL, params={"pixel_spacing_mm": 0.5}, files=upload)
    for response in (by_form, by_query):
        assert response.json()["findings"]["liver"]["area_mm2"] == pytest.approx(400)


def test_window_of_the_request(client: TestClient) -> None:
    """With its own window nothing is assumed, and the model sees other values."""
    window = {"window_lower_hu": -160, "window_upper_hu": 240}
    upload = {"files": ("slice", slice_png())}
    answer = client.post(URL, params=window, files=upload).json()
    assert "window_assumed" not in {item["code"] for item in answer["warnings"]}
    assert answer["findings"]["liver"]["area_px"] == 0


def test_rules_can_be_switched_off(client: TestClient, study: bytes) -> None:
    """Every rule says what it did, or that the request did not want it."""
    off = {"drop_liver_fragments": "false", "drop_distant_tumor": 0, "drop_small_lesions": "no",
           "drop_unlikely_lesions": "off"}  # fmt: skip
    answer = client.post(URL, params=off, content=study, headers=ZIP).json()
    assert [item["reason"] for item in answer["postprocessing"]] == [
        "switched off by the request"
    ] * 4
    answer = client.post(URL, content=study, headers=ZIP).json()
    assert {item["rule"]: item["reason"] for item in answer["postprocessing"]} == {
        "liver_fragments": None,
        "distant_tumor": None,
        "small_lesions": None,
        "unlikely_lesions": "the model sets no limits",
    }


def test_unlikely_lesions(tmp_path: Path, study: bytes) -> None:
    """What the model's limits drop, of a series and of an image, a request can keep, in the query
    and in the form; both times the answer says so.
    """
    limited = make_contract(lesion_limits=LesionLimits(fluid_hu=60))
    with running(tmp_path, FakeSegmenter(by_threshold, limited)) as client:
        for upload in (study, slice_png()):
            files = {"files": ("any name", upload)}
            cleaned = client.post(URL, files=files).json()
            assert cleaned["findings"]["lesions"] == []
            *_, removal = cleaned["postprocessing"]
            assert (removal["rule"], removal["applied"]) == ("unlikely_lesions", True)
            assert removal["components"] > 0
            for where in ("params", "data"):
                response = client.post(
                    URL, files=files, **{where: {"drop_unlikely_lesions": "false"}}
                )
                kept = response.json()
                assert len(kept["findings"]["lesions"]) == removal["components"]
                assert kept["findings"]["tumor"]["voxels"] == removal["voxels"]
                assert kept["postprocessing"][-1]["reason"] == "switched off by the request"


def test_dicom_answer(client: TestClient, study: bytes) -> None:
    """Accept: application/dicom gives the SEG."""
    response = client.post(URL, content=study, headers={**ZIP, "Accept": "application/dicom"})
    assert response.headers["content-type"] == "application/dicom"
    seg = highdicom.seg.segread(io.BytesIO(response.content))
    assert seg.number_of_segments == 4


def test_zip_answer(client: TestClient, study: bytes) -> None:
    """Accept: application/zip gives everything, and its JSON agrees with the JSON answer."""
    response = client.post(URL, content=study, headers={**ZIP, "Accept": "application/zip"})
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert archive.testzip() is None
    names = set(archive.namelist())
    assert {"result.json", "contours.json", "mask.nii.gz", "mask.dcm", "preview.png"} <= names
    assert sum(name.startswith("overlays/") for name in names) == 36
    assert sum(name.startswith("masks/") for name in names) == 36
    plain = client.post(URL, content=study, headers=ZIP).json()
    assert json.loads(archive.read("result.json"))["findings"] == plain["findings"]
    assert json.loads(archive.read("contours.json"))["contours"] == plain["contours"]


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*;q=0.5", "application/json"),
        ("application/json;q=0.2, application/zip", "application/zip"),
        ("text/html, application/dicom;q=0.3, */*;q=0.1", "application/dicom"),
    ],
)
def test_accept(client: TestClient, study: bytes, accept: str, given: str) -> None:
    """RFC 9110: the most specific range decides, the highest quality wins, JSON breaks ties."""
    response = client.post(URL, content=study, headers={**ZIP, "Accept": accept})
    assert response.headers["content-type"] == given


def mr_zip(volume: Volume) -> bytes:
    datasets = series(volume[:3])
    for dataset in datasets:
        dataset.SOPClassUID, dataset.Modality = MRImageStorage, "MR"
    return zip_of(datasets)


def refused(response: object, status: int, code: str) -> dict[str, str]:
    """Check a problem document and return it."""
    problem = response.json()  # type: ignore[attr-defined]
    assert (response.status_code, problem["code"]) == (status, code), problem  # type: ignore[attr-defined]
    assert response.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]  # type: ignore[attr-defined]
    text = json.dumps(problem)
    assert PHANTOM_NAME.split("^")[0] not in text
    assert str(Path.cwd()) not in text
    return problem


def test_refusals_of_content(client: TestClient, clean_volume: Volume, study: bytes) -> None:
    """What the data hold decides, whatever the Content-Type says."""
    post = lambda data: client.post(URL, content=data, headers=ZIP)  # noqa: E731
    refused(post(b""), 400, "empty_input")
    refused(post(b"hello"), 415, "unknown_format")
    refused(post(study[: len(study) // 2]), 422, "unreadable_file")
    problem = refused(post(mr_zip(clean_volume)), 422, "wrong_modality")
    assert problem["detail"] == "Expected CT, found MR."
    color = np.zeros((8, 8, 3), np.uint8)
    color[..., 0] = 90
    refused(post(png(color)), 422, "color_image")


def test_refusals_of_the_request(client: TestClient, study: bytes) -> None:
    """Types, parameters and forms that are not the service's."""
    refused(client.post(URL, content=b"x", headers={"Content-Type": "text/plain"}), 415,
            "unsupported_media_type")  # fmt: skip
    refused(client.post(URL), 415, "unsupported_media_type")
    refused(client.post(URL, content=study, headers={**ZIP, "Accept": "text/html"}), 406,
            "not_acceptable")  # fmt: skip
    for query in (
        {"color": "red"},
        {"include": "everything"},
        {"pixel_spacing_mm": "-1"},
        {"pixel_spacing_mm": "nan"},
        {"window_lower_hu": "0"},
        {"window_lower_hu": "10", "window_upper_hu": "10"},
        {"series_instance_uid": "not a uid"},
        {"drop_small_lesions": "maybe"},
        {"drop_unlikely_lesions": "maybe"},
    ):
        refused(
            client.post(URL, params=query, content=study, headers=ZIP), 400, "invalid_parameter"
        )
    refused(client.post(f"{URL}?include=mask&include=mask", content=study, headers=ZIP), 400,
            "invalid_parameter")  # fmt: skip
    refused(client.post(URL, files={"other": ("x", study)}), 400, "invalid_parameter")
    broken = {"Content-Type": "multipart/form-data; boundary=b"}
    refused(client.post(URL, content=b"no form", headers=broken), 400, "invalid_parameter")
    broken = {"Content-Type": "multipart/form-data"}
    refused(client.post(URL, content=study, headers=broken), 400, "invalid_parameter")


def test_refusals_by_limits(tmp_path: Path, threshold: FakeSegmenter, study: bytes) -> None:
    """Each limit is a setting, and each has its code."""
    for name, value, code in (
        ("max_request_bytes", 1000, "request_too_large"),
        ("max_decompressed_bytes", 1000, "archive_too_large"),
        ("max_files", 3, "too_many_files"),
        ("max_voxels", 1000, "too_many_voxels"),
    ):
        settings = Settings(data_dir=tmp_path, **{name: value})
        with TestClient(create_app(settings, lambda _: threshold)) as client:
            refused(client.post(URL, content=study, headers=ZIP), 413, code)
            if name == "max_request_bytes":
                chunks = (study[start : start + 500] for start in range(0, 3000, 500))
                refused(client.post(URL, content=chunks, headers=ZIP), 413, code)
                refused(client.post(URL, files={"files": study}), 413, code)
            if name == "max_files":
                many = [("files", ("x", slice_png()))] * 5
                refused(client.post(URL, files=many), 413, code)


def test_no_seg_of_an_image(client: TestClient) -> None:
    """A DICOM answer needs a DICOM source."""
    headers = {"Content-Type": "image/png", "Accept": "application/dicom"}
    refused(client.post(URL, content=slice_png(), headers=headers), 422, "no_dicom_source")


def test_unknown_addresses_and_methods(client: TestClient) -> None:
    """404 and 405 are problem documents too."""
    refused(client.get("/v1/nothing"), 404, "not_found")
    response = client.get(URL)
    refused(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"
    refused(client.get("/v1/models/other"), 404, "not_found")


def test_models_and_health(client: TestClient) -> None:
    """The card is the contract, with the provider and device of the live session."""
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json()["provider"] == "FakeExecutionProvider"
    assert [item["name"] for item in client.get("/v1/models").json()["models"]] == ["fake"]
    card = client.get("/v1/models/fake").json()
    assert card["contract"] == json.loads(make_contract().model_dump_json())
    none = {"surrounded": 0, "fluid_hu": None, "contrast_hu": 0}
    assert card["contract"]["lesion_limits"] == none


def test_a_models_limits_are_told(tmp_path: Path) -> None:
    """What its card says of lesions is what its contract asks of them."""
    limits = {"surrounded": 0.4, "fluid_hu": 25.0, "contrast_hu": 8.0}
    limited = make_contract(lesion_limits=limits)
    with running(tmp_path, FakeSegmenter(by_threshold, limited)) as client:
        assert client.get("/v1/models/fake").json()["contract"]["lesion_limits"] == limits


def test_bad_model_is_live_and_never_ready(settings: Settings, study: bytes) -> None:
    """A model that could not be opened: live, not ready, and every request says so."""

    def fail(_: Settings) -> FakeSegmenter:
        raise InvalidModel("Expected a contract, found none.")

    with TestClient(create_app(settings, fail)) as client:
        assert client.get("/health/live").status_code == 200
        problem = refused(client.get("/health/ready"), 503, "model_not_ready")
        assert "invalid_model" in problem["detail"]
        response = client.post(URL, content=study, headers=ZIP)
        refused(response, 503, "model_not_ready")
        assert response.headers["retry-after"] == "5"
        refused(client.get("/v1/models"), 503, "model_not_ready")


def test_full_service_refuses_early(tmp_path: Path) -> None:
    """One request runs, none may wait: the second is told to come again; then all is free."""
    running, go_on = threading.Event(), threading.Event()

    def slow(hu: np.ndarray) -> np.ndarray:
        running.set()
        assert go_on.wait(30)
        return by_threshold(hu)

    settings = Settings(data_dir=tmp_path, max_running=1, max_waiting=0)
    headers = {"Content-Type": "image/png"}
    with TestClient(create_app(settings, lambda _: FakeSegmenter(slow))) as client:
        answers = []
        first = threading.Thread(
            target=lambda: answers.append(client.post(URL, content=slice_png(), headers=headers))
        )
        first.start()
        assert running.wait(30)
        response = client.post(URL, content=slice_png(), headers=headers)
        refused(response, 503, "busy")
        assert response.headers["retry-after"] == "5"
        assert client.get("/health/ready").status_code == 200
        go_on.set()
        first.join(30)
        assert answers[0].status_code == 200
        assert client.post(URL, content=slice_png(), headers=headers).status_code == 200


def test_defect_is_a_plain_500(settings: Settings, logged: io.StringIO) -> None:
    """An unknown exception tells the caller a request id, and the log the trace."""

    def broken(hu: np.ndarray) -> np.ndarray:
        raise RuntimeError("secret detail")

    app = create_app(settings, lambda _: FakeSegmenter(broken))
    with TestClient(app) as client:
        headers = {"Content-Type": "image/png", "X-Request-ID": "my-id"}
        response = client.post(URL, content=slice_png(), headers=headers)
        problem = refused(response, 500, "internal_error")
        assert problem["request_id"] == "my-id"
        assert "secret" not in response.text
        written = logged.getvalue()
        assert '"request_id": "my-id"' in written
        assert "RuntimeError in broken" in written
        assert "secret" not in written
        response = client.get("/health/live", headers={"X-Request-ID": "bad id\t"})
        assert response.headers["x-request-id"] != "bad id\t"


def test_resample(client: TestClient, phantom: Phantom) -> None:
    """A series with a missing slice: refused with the way out, taken with it, on its own slices."""
    datasets = series(phantom.sample(36, 96, noise_hu=0)[0])
    del datasets[18]
    study = zip_of(datasets)
    refused = client.post(URL, content=study, headers=ZIP)
    assert refused.status_code == 422
    assert refused.json()["code"] == "uneven_slice_spacing"
    assert "slices 18 and 20. With resample=true" in refused.json()["detail"]
    response = client.post(URL, content=study, headers=ZIP, params={"resample": "true"})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["source"]["slices"] == 35
    assert [warning["code"] for warning in answer["warnings"]] == ["resampled"]
    assert answer["findings"]["liver"]["volume_ml"] == pytest.approx(phantom.liver_ml, rel=0.03)


def test_accept_in_several_headers(tmp_path: Path) -> None:
    """Several `Accept` headers are one list."""
    headers = [*PNG.items(), ("Accept", "text/html"), ("Accept", "application/zip")]
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        response = client.post("/v1/segment", content=slice_png(), headers=headers)
        assert response.headers["content-type"] == "application/zip"
