"""A CT goes from a PACS or a scanner to the service, and its results come back to the PACS."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import ORIENTATIONS
from dicom_files import series, to_bytes, zip_of
from encode.objects import codes_in, object_errors
from fakes import FakeSegmenter, by_threshold
from fastapi.testclient import TestClient
from highdicom import Volume
from highdicom.seg import Segmentation
from http_helpers import listening, problem
from orthanc.real import (
    AE_TITLE,
    PASSWORD,
    USER,
    WAIT_S,
    Orthanc,
    echoscu,
    findscu,
    free_port,
    orthanc,
    require,
    storescu,
)
from pydicom import Dataset

from service.api.app import create_app
from service.phantom import Phantom
from service.phantom_files import PHANTOM_NAME, write_dicom
from service.settings import Settings

pytestmark = pytest.mark.orthanc

URL = "/v1/segmentations"
LISTENER, SCANNER = "LIVERTUMOR", "CTSCANNER1"
OBJECTS = ("SEG", "SR", "RTSTRUCT")


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    require()
    with orthanc(tmp_path_factory.mktemp("orthanc"), (LISTENER, SCANNER)) as running:
        yield running


def pacs_file(folder: Path, server: Orthanc, password: str = PASSWORD) -> Path:
    """Both ways to the same Orthanc, and a scanner that is answered by each of them."""
    (folder / "password").write_text(password)
    file = folder / "pacs.toml"
    file.write_text(f"""
        [nodes.archive]
        url = "{server.dicomweb_url}"
        username = "{USER}"
        password_file = "{folder / "password"}"

        [nodes.store]
        ae_title = "{AE_TITLE}"
        host = "127.0.0.1"
        port = {server.dicom_port}

        [callers.{SCANNER}]
        destination = "store"

        [callers.CTSCANNER2]
        destination = "archive"
        objects = ["seg", "labelmap", "sr", "rtstruct", "overlays"]
        """)
    return file


@pytest.fixture(scope="module")
def small_volume(phantom: Phantom) -> Volume:
    """What crosses a network in no time: dcmtk and Orthanc wait 90 ms after each instance."""
    return phantom.sample(12, 48, noise_hu=0)[0]


@contextmanager
def segmenting(folder: Path, file: Path, **more: object) -> Iterator[TestClient]:
    """The service in this process, with a model that labels the phantom."""
    settings = Settings(data_dir=folder / "data", pacs_file=file, pacs_timeout_s=10, **more)
    with TestClient(create_app(settings, lambda _: FakeSegmenter(by_threshold))) as client:
        yield client


def push(server: Orthanc, datasets: list[Dataset], folder: Path) -> None:
    folder.mkdir(parents=True)
    for index, dataset in enumerate(datasets):
        (folder / f"{index:04d}.dcm").write_bytes(to_bytes(dataset))
    sent = storescu(server.dicom_port, AE_TITLE, SCANNER, folder)
    assert sent.returncode == 0, sent.stderr


def ask(client: TestClient, datasets: list[Dataset], **more: object) -> dict:
    """Ask for the series by its UIDs and wait for the answer."""
    body = {
        "origin": "archive",
        "study_instance_uid": str(datasets[0].StudyInstanceUID),
        "series_instance_uid": str(datasets[0].SeriesInstanceUID),
        **more,
    }
    answer = client.post(f"{URL}/dicomweb", json=body, headers={"Prefer": "wait=60"})
    assert answer.status_code == 201, answer.text
    return answer.json()


def check_objects(found: dict[str, Dataset], datasets: list[Dataset], folder: Path) -> None:
    """Valid, in the patient's place to 0.01 mm, and of one mind about each segment's volume."""
    paths = []
    for name, instance in found.items():
        paths.append(folder / f"{name}.dcm")
        instance.save_as(paths[-1])
        assert instance.StudyInstanceUID == datasets[0].StudyInstanceUID
        assert instance.PatientID == datasets[0].PatientID
    assert object_errors(paths) == []
    seg = Segmentation.from_dataset(found["SEG"])
    assert seg.FrameOfReferenceUID == datasets[0].FrameOfReferenceUID
    assert found["RTSTRUCT"].FrameOfReferenceUID == datasets[0].FrameOfReferenceUID
    positions = {
        str(one.SOPInstanceUID): np.array(one.ImagePositionPatient, float) for one in datasets
    }
    for frame in seg.PerFrameFunctionalGroupsSequence:
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        off_mm = np.abs(position - positions[str(image.ReferencedSOPInstanceUID)])
        assert off_mm.max() < 0.01
    check_contours(found["RTSTRUCT"], datasets, positions)
    check_volumes(found["SR"], seg)


def check_contours(
    rtstruct: Dataset, datasets: list[Dataset], positions: dict[str, np.ndarray]
) -> None:
    """Each contour lies in the plane of the slice that it names."""
    right, down = np.reshape(np.array(datasets[0].ImageOrientationPatient, float), (2, 3))
    assert rtstruct.ROIContourSequence[0].ContourSequence
    for roi in rtstruct.ROIContourSequence:
        for contour in roi.get("ContourSequence", []):  # a lesion of single pixels has none
            (image,) = contour.ContourImageSequence
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            off = (points - positions[str(image.ReferencedSOPInstanceUID)]) @ np.cross(right, down)
            assert np.abs(off).max() < 0.01


def check_volumes(report: Dataset, seg: Segmentation) -> None:
    """Each group's volume is its segment's voxels times the voxel's volume."""
    volume = seg.get_volume(combine_segments=True)
    counts = np.bincount(np.asarray(volume.array).ravel(), minlength=2)[1:]
    (groups,) = (one for one in report.ContentSequence if codes_in(one) == "126010")
    found = [
        float(one.MeasuredValueSequence[0].FloatingPointValue)
        for group in groups.ContentSequence[: len(counts)]
        for one in group.ContentSequence
        if codes_in(one) == "118565006"
    ]
    voxel_ml = float(np.prod(volume.spacing)) / 1000
    assert found == pytest.approx([count * voxel_ml for count in counts], rel=1e-6)


def test_by_dicomweb_in_every_orientation(pacs: Orthanc, phantom: Phantom, tmp_path: Path) -> None:
    """A series named by its UIDs comes back as SEG, SR and RTSTRUCT in its own study."""
    small = phantom.sample(12, 40, noise_hu=0)[0]
    with segmenting(tmp_path, pacs_file(tmp_path, pacs)) as client:
        for number, orientation in enumerate(ORIENTATIONS):
            datasets = series(small.to_patient_orientation(orientation), seed=1000 + number)
            pacs.upload(zip_of(datasets))
            document = ask(client, datasets)
            assert document["delivery"]["complete"] is True
            study = str(datasets[0].StudyInstanceUID)
            found = pacs.wait_for(study, OBJECTS)
            folder = tmp_path / "found" / orientation
            folder.mkdir(parents=True)
            check_objects(found, datasets, folder)


def test_asking_again_stores_nothing_twice(
    pacs: Orthanc, small_volume: Volume, tmp_path: Path
) -> None:
    """The same series again gives the same UIDs: the PACS holds each object once."""
    datasets = series(small_volume, seed=2)
    push(pacs, datasets, tmp_path / "pushed")
    with segmenting(tmp_path, pacs_file(tmp_path, pacs)) as client:
        first, second = (ask(client, datasets) for _ in range(2))
    assert first["id"] != second["id"]
    for document in (first, second):
        assert document["delivery"]["complete"] is True
    uids = [
        [receipt["sop_instance_uid"] for receipt in document["delivery"]["receipts"]]
        for document in (first, second)
    ]
    assert uids[0] == uids[1]
    assert len(pacs.instances(str(datasets[0].StudyInstanceUID))) == len(datasets) + 3


def test_every_object_by_every_way(pacs: Orthanc, small_volume: Volume, tmp_path: Path) -> None:
    """Pictures and label map too; the last is named as refused by a peer that does not know it.

    This Orthanc takes any class by STOW-RS, and by C-STORE those that it knows.
    """
    names = ["seg", "labelmap", "sr", "rtstruct", "overlays"]
    with segmenting(tmp_path, pacs_file(tmp_path, pacs)) as client:
        for number, node in enumerate(("archive", "store")):
            datasets = series(small_volume, seed=20 + number)
            push(pacs, datasets, tmp_path / "pushed" / node)
            document = ask(client, datasets, objects=names, destination=node)
            receipts = document["delivery"]["receipts"]
            assert {one["object"] for one in receipts} == set(names)
            refused = {one["object"] for one in receipts if one["status"] != "stored"}
            assert refused == (set() if node == "archive" else {"labelmap"}), receipts
            assert document["delivery"]["complete"] is not bool(refused)
            receipts = [one for one in receipts if one["object"] not in refused]
            held = pacs.instances(str(datasets[0].StudyInstanceUID))
            assert len(held) == len(datasets) + len(receipts)
            sent = {one["sop_instance_uid"] for one in receipts}
            results = [one for one in held if str(one.SOPInstanceUID) in sent]
            assert len(results) == len(receipts)
            paths = [tmp_path / f"{node}-{index}.dcm" for index in range(len(results))]
            for path, instance in zip(paths, results, strict=True):
                instance.save_as(path)
            assert object_errors(paths) == []


def test_a_wrong_password_is_named(pacs: Orthanc, small_volume: Volume, tmp_path: Path) -> None:
    """401 from the PACS is `origin_refused`, at once."""
    datasets = series(small_volume, seed=2)
    with segmenting(tmp_path, pacs_file(tmp_path, pacs, "wrong")) as client:
        body = {
            "origin": "archive",
            "study_instance_uid": str(datasets[0].StudyInstanceUID),
            "series_instance_uid": str(datasets[0].SeriesInstanceUID),
        }
        problem(client.post(f"{URL}/dicomweb", json=body), 502, "origin_refused")


def test_a_series_that_is_not_there(pacs: Orthanc, tmp_path: Path) -> None:
    """The PACS knows no such series: that is said, and nothing is retried."""
    with segmenting(tmp_path, pacs_file(tmp_path, pacs)) as client:
        body = {
            "origin": "archive",
            "study_instance_uid": "1.2.3",
            "series_instance_uid": "1.2.3.4",
        }
        problem(client.post(f"{URL}/dicomweb", json=body), 422, "series_not_found")


def test_a_pacs_that_is_down_for_a_while(small_volume: Volume, tmp_path: Path) -> None:
    """The job waits for it, and ends well once it is back."""
    require()
    ports = (free_port(), free_port())
    folder = tmp_path / "orthanc"
    datasets = series(small_volume, seed=30)
    with orthanc(folder, (SCANNER,), ports) as server:
        push(server, datasets, tmp_path / "pushed")
        file = pacs_file(tmp_path, server)
    with segmenting(tmp_path, file) as client:
        body = {
            "origin": "archive",
            "study_instance_uid": str(datasets[0].StudyInstanceUID),
            "series_instance_uid": str(datasets[0].SeriesInstanceUID),
        }
        headers = {"Prefer": "respond-async"}
        accepted = client.post(f"{URL}/dicomweb", json=body, headers=headers).json()
        time.sleep(1)
        assert client.get(accepted["links"]["self"]).json()["progress"]["stage"] == "fetch"
        with orthanc(folder, (SCANNER,), ports) as server:
            document = finished(client, accepted["links"]["self"])
            assert document["delivery"]["complete"] is True
            server.wait_for(str(datasets[0].StudyInstanceUID), OBJECTS)


def finished(client: TestClient, address: str) -> dict:
    deadline = time.monotonic() + WAIT_S
    while True:
        document = client.get(address).json()
        if document["status"] not in ("queued", "running"):
            assert document["status"] == "succeeded", document
            return document
        assert time.monotonic() < deadline, document
        time.sleep(0.1)


@contextmanager
def receiving(folder: Path, file: Path, service_port: int) -> Iterator[int]:
    """`python -m service listen` as its own process; gives its DIMSE port."""
    port = free_port()
    environment = {
        **os.environ,
        "LTS_DATA_DIR": str(folder / "received"),
        "LTS_PACS_FILE": str(file),
        "LTS_LISTEN_PORT": str(port),
        "LTS_LISTEN_QUIET_S": "1",
        "LTS_SERVICE_URL": f"http://127.0.0.1:{service_port}",
    }
    with (folder / "listen.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "listen"], env=environment, stderr=log
        )
        try:
            deadline = time.monotonic() + WAIT_S
            while echoscu(port, LISTENER, SCANNER).returncode != 0:
                assert process.poll() is None, (folder / "listen.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0


@pytest.mark.parametrize("scanner", [SCANNER, "CTSCANNER2"])
def test_by_dimse(pacs: Orthanc, small_volume: Volume, tmp_path: Path, scanner: str) -> None:
    """What a scanner pushes comes back to the PACS that its title is mapped to.

    By C-STORE for one, by STOW-RS for the other; a workstation finds it by C-FIND.
    """
    seed = 40 + len(scanner) if scanner == SCANNER else 60
    datasets = series(small_volume, seed=seed)
    write_dicom(small_volume, tmp_path / "scan", seed)
    file = pacs_file(tmp_path, pacs)
    settings = Settings(data_dir=tmp_path / "data", pacs_file=file)
    application = create_app(settings, lambda _: FakeSegmenter(by_threshold))
    with listening(application) as service_port, receiving(tmp_path, file, service_port) as port:
        assert storescu(port, LISTENER, scanner, tmp_path / "scan").returncode == 0
        study = str(datasets[0].StudyInstanceUID)
        if scanner == SCANNER:
            found = pacs.wait_for(study, OBJECTS)
        else:
            found = {}
            pacs.wait_for(study, ("SR", "RTSTRUCT"))
            for instance in pacs.instances(study):
                found.setdefault(str(instance.Modality), instance)
    (tmp_path / "found").mkdir()
    check_objects({name: found[name] for name in OBJECTS}, datasets, tmp_path / "found")
    modalities = findscu(pacs, SCANNER, study)
    assert set(OBJECTS) <= set(modalities)
    log = (tmp_path / "listen.log").read_text()
    assert '"event": "series whole"' in log
    assert PHANTOM_NAME.split("^")[0] not in log
    assert "PHANTOM-1" not in log


def test_a_stranger_is_sent_away(pacs: Orthanc, small_volume: Volume, tmp_path: Path) -> None:
    """A calling title that is not among the callers gets no association."""
    write_dicom(small_volume[:3], tmp_path / "scan", 70)
    with receiving(tmp_path, pacs_file(tmp_path, pacs), free_port()) as port:
        assert storescu(port, LISTENER, "STRANGER", tmp_path / "scan").returncode != 0
        assert storescu(port, "OTHER", SCANNER, tmp_path / "scan").returncode != 0
