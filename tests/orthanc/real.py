"""A real Orthanc with its DICOMweb plugin, and dcmtk's tools, as a hospital would run them."""

import base64
import io
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

AE_TITLE = "ORTHANC"
USER, PASSWORD = "lts", "not-a-secret"  # of a server that lives for a test

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
TOOLS = ("Orthanc", "storescu", "findscu", "echoscu", "dcmdump", "dsrdump")

WAIT_S = 60


_PLACES = "/usr/bin:/usr/sbin:/usr/local/bin"
"""Not the environment's own: pynetdicom has tools of the same names."""


def tool(name: str) -> str:
    """The path of a tool of Debian's."""
    return shutil.which(name, path=_PLACES) or name


def require() -> None:
    """Fail in CI, and skip elsewhere, where Debian's packages are not installed."""
    missing = [name for name in TOOLS if shutil.which(name, path=_PLACES) is None]
    if not PLUGIN.exists():
        missing.append(PLUGIN.name)
    if not missing:
        return
    reason = f"not installed: {', '.join(missing)} (Debian: orthanc, orthanc-dicomweb, dcmtk)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Orthanc:
    """A running one; it takes DIMSE from the titles that it was told, HTTP with a password."""

    http_port: int
    dicom_port: int

    @property
    def dicomweb_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def get(self, path: str, body: bytes | None = None) -> bytes:
        """What the address holds; with a body, what it says of that."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", body)
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def upload(self, archive: bytes) -> None:
        """Put a zip of DICOM files into it: storescu waits 90 ms after each."""
        self.get("/instances", archive)

    def instances(self, study_uid: str) -> list[Dataset]:
        """All that it holds of a study."""
        found = []
        for study in json.loads(self.get("/studies?expand")):
            if study["MainDicomTags"]["StudyInstanceUID"] == study_uid:
                with zipfile.ZipFile(io.BytesIO(self.get(f"/studies/{study['ID']}/archive"))) as z:
                    found += [dcmread(io.BytesIO(z.read(name))) for name in z.namelist()]
        return found

    def wait_for(self, study_uid: str, modalities: Sequence[str]) -> dict[str, Dataset]:
        """The objects of these modalities, once all are there; each must be there once."""
        deadline = time.monotonic() + WAIT_S
        while True:
            found: dict[str, list[Dataset]] = {}
            for instance in self.instances(study_uid):
                found.setdefault(str(instance.Modality), []).append(instance)
            if set(modalities) <= set(found):
                assert [len(found[name]) for name in modalities] == [1] * len(modalities)
                return {name: found[name][0] for name in modalities}
            assert time.monotonic() < deadline, f"only {sorted(found)} came"
            time.sleep(0.3)


@contextmanager
def orthanc(
    folder: Path, modalities: Sequence[str] = (), ports: tuple[int, int] | None = None
) -> Iterator[Orthanc]:
    """Start one that trusts these calling AE titles on this machine; its files are in `folder`."""
    http_port, dicom_port = ports or (free_port(), free_port())
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": http_port,
        "DicomPort": dicom_port,
        "DicomAet": AE_TITLE,
        "DicomCheckCalledAet": True,
        # Both ports answer this machine only.
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomAlwaysAllowFind": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": {title: [title, "127.0.0.1", 1] for title in modalities},
        "StableAge": 1,
        "SyncStorageArea": False,  # no power cut is part of a test
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([tool("Orthanc"), file], stdout=log, stderr=log)
        try:
            running = Orthanc(http_port, dicom_port)
            deadline = time.monotonic() + WAIT_S
            while not _is_up(running):
                assert process.poll() is None, (folder / "orthanc.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield running
        finally:
            process.terminate()
            process.wait(WAIT_S)


def _is_up(server: Orthanc) -> bool:
    try:
        server.get("/system")
    except OSError:
        return False
    return True


def storescu(port: int, called: str, calling: str, folder: Path) -> subprocess.CompletedProcess:
    """Push a folder of DICOM files, as a scanner does."""
    return subprocess.run(
        [tool("storescu"), "-aec", called, "-aet", calling, "+sd", "127.0.0.1", str(port), folder],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def echoscu(port: int, called: str, calling: str) -> subprocess.CompletedProcess:
    """Ask whether anybody is there."""
    return subprocess.run(
        [tool("echoscu"), "-aec", called, "-aet", calling, "127.0.0.1", str(port)],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


def findscu(server: Orthanc, calling: str, study_uid: str) -> list[str]:
    """The modalities of a study's series, as a workstation asks for them."""
    found = subprocess.run(
        [tool("findscu"), "-S", "-aec", AE_TITLE, "-aet", calling,
         "127.0.0.1", str(server.dicom_port),
         "-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={study_uid}",
         "-k", "Modality", "-k", "SeriesInstanceUID"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    lines = [line for line in (found.stdout + found.stderr).splitlines() if "(0008,0060)" in line]
    return sorted(line.split("[")[1].split("]")[0].strip() for line in lines if "[" in line)
