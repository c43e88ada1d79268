"""Profile `pacs`: what Orthanc sends to `listen` comes back as objects, and the service fetches."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
import requests
from deploy.engine import JOB_S, Project, free_port, project, until

pytestmark = [pytest.mark.deploy, pytest.mark.real_ct]

OBJECTS = {"SEG", "SR", "RTSTRUCT"}


@pytest.fixture(scope="module")
def hospital(
    image: str, orthanc_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    with project(
        tmp_path_factory.mktemp("hospital"), COMPOSE_PROFILES="pacs", LTS_IMAGE=image,
        LTS_ORTHANC_IMAGE=orthanc_image, LTS_PACS_FILE="/etc/lts/pacs/pacs.toml",
        LTS_ORTHANC_HTTP_PORT=str(free_port()), LTS_ORTHANC_DICOM_PORT=str(free_port()),
        LTS_LISTEN_PORT=str(free_port()), LTS_LISTEN_QUIET_S="3",
    ) as found:  # fmt: skip
        found.make_secrets()
        found.up()
        found.wait_ready()
        yield found


@pytest.fixture(scope="module")
def orthanc(hospital: Project) -> requests.Session:
    """Orthanc's REST interface with the password that deploy/secrets/make has made."""
    session = requests.Session()
    secret = hospital.folder / "deploy" / "secrets" / "pacs" / "orthanc_password"
    session.auth = ("lts", secret.read_text())
    until(lambda: answers(session, hospital), 60, "an answer of Orthanc")
    return session


def address(hospital: Project, path: str) -> str:
    return f"http://127.0.0.1:{hospital.variables['LTS_ORTHANC_HTTP_PORT']}{path}"


def answers(session: requests.Session, hospital: Project) -> bool:
    try:
        return session.get(address(hospital, "/system"), timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def series(hospital: Project, orthanc: requests.Session, real_ct: Path) -> str:
    """Orthanc's name of the CT, which it holds alone."""
    uploaded = orthanc.post(address(hospital, "/instances"), real_ct.read_bytes(), timeout=120)
    assert uploaded.status_code == 200, uploaded.text
    (found,) = orthanc.get(address(hospital, "/series"), timeout=10).json()
    return found


def modalities(hospital: Project, orthanc: requests.Session) -> set[str]:
    listed = orthanc.get(address(hospital, "/series?expand"), timeout=10).json()
    return {found["MainDicomTags"]["Modality"] for found in listed}


def test_password_is_needed(hospital: Project) -> None:
    assert requests.get(address(hospital, "/system"), timeout=10).status_code == 401


def test_sent_by_orthanc(hospital: Project, orthanc: requests.Session, series: str) -> None:
    """C-STORE to `listen`, whose results are stored back by DICOMweb, in the same study."""
    sent = orthanc.post(address(hospital, "/modalities/segmentation/store"), series, timeout=120)
    assert sent.status_code == 200, sent.text
    until(lambda: modalities(hospital, orthanc) >= OBJECTS, JOB_S, "the objects in Orthanc")
    assert len(orthanc.get(address(hospital, "/studies"), timeout=10).json()) == 1


def test_fetched_by_the_service(
    hospital: Project, orthanc: requests.Session, series: str, real_ct: Path
) -> None:
    """A series named by its UIDs is fetched by DICOMweb, and each object has a receipt."""
    with zipfile.ZipFile(real_ct) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dcm"))
        header = pydicom.dcmread(io.BytesIO(archive.read(name)), stop_before_pixels=True)
    answer = requests.post(
        f"{hospital.url}/v1/segmentations/dicomweb",
        json.dumps({
            "origin": "orthanc",
            "study_instance_uid": header.StudyInstanceUID,
            "series_instance_uid": header.SeriesInstanceUID,
        }),
        headers={"Content-Type": "application/json", "Prefer": "respond-async"},
        timeout=60,
    )  # fmt: skip
    assert answer.status_code == 202, answer.text
    ended = hospital.ended(f"{hospital.url}{answer.headers['Location']}")
    assert ended["status"] == "succeeded", ended
    receipts = ended["delivery"]["receipts"]
    assert {receipt["status"] for receipt in receipts} <= {"stored", "already_stored"}
    assert len(receipts) == len(OBJECTS)
