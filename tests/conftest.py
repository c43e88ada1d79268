"""Fixtures that more than one folder of tests uses."""

import io
import itertools
import logging
import os
import re
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import structlog
from fakes import FakeSegmenter, by_threshold
from fastapi.testclient import TestClient
from highdicom import Volume
from threshold_model import write_threshold_model

from service import logs
from service.api.app import create_app
from service.decode.archive import ArchiveLimits
from service.decode.options import DecodeOptions
from service.inference.batching import Batcher
from service.inference.session import ModelSession
from service.phantom import Phantom
from service.phantom_files import PHANTOM_ID, PHANTOM_NAME
from service.settings import Settings
from service.volume import HounsfieldWindow

ROOT = Path(__file__).parent.parent

os.environ["LTS_ALLOWED_HOSTS"] = "testserver"  # as the test client calls the application

ORIENTATIONS = tuple(
    "".join(ends)
    for axes in itertools.permutations(("HF", "PA", "LR"))
    for ends in itertools.product(*axes)
)
"""All 48 ways in which slices, rows and columns can point."""


PATIENT = (*PHANTOM_NAME.split("^"), PHANTOM_ID)
"""Words of the phantom's patient, which nothing that a test logs or prints may hold."""


LONG = ("jobs/test_kill", "training/test_parallel", "encode/test_all_objects",
        "training/test_commands", "cluster/test_outages", "browser/test_flow",
        "training/test_train", "orthanc/test_hospital", "test_docs", "cluster/test_kills",
        "training/test_network", "test_clean_environment", "browser/test_study",
        "cluster/test_ends", "test_real_ct", "browser/test_real_study", "jobs/test_memory",
        "export/test_release", "cluster/test_work", "encode/test_secondary_capture",
        "encode/test_outputs", "orthanc/test_integration_examples", "test_command_line",
        "encode/test_rtstruct")  # fmt: skip
"""Modules of 30 s and more, the longest first, but that those which mostly wait for
the processes that they kill come one after the other, beside those that compute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long modules go first: begun last, one of them would keep a worker while the other idles."""
    items.sort(key=lambda item: LONG.index(name) if (name := module(item)) in LONG else len(LONG))


def module(item: pytest.Item) -> str:
    return str(item.path.relative_to(ROOT / "tests").with_suffix(""))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test fails whose log names the patient: its own, and that of the processes it starts."""
    report = yield
    return without_patient(report)


def without_patient(report: pytest.TestReport) -> pytest.TestReport:
    """The report of one phase of a test, failed where what was captured names the patient.

    Of what loggers said only what the service's own said: it hears no library's.
    """
    logged = re.findall(r"^\w+ +(?:service|uvicorn)\b.*", report.caplog, re.MULTILINE)
    captured = "\n".join([report.capstdout, report.capstderr, *logged])
    if report.passed and any(word in captured for word in PATIENT):
        report.outcome = "failed"
        report.longrepr = "The log of this test names the phantom's patient."
    return report


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Files are no names: some hold the time of day, and two workers would collect other tests."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command that runs in a test's process sets up logs on a stream that ends with the test."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, threading.excepthook
    yield
    root.handlers[:], threading.excepthook = handlers, hook
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def logged() -> io.StringIO:
    """The service's log, as it writes it."""
    written = io.StringIO()
    logs.write_json(written)
    return written


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def options() -> DecodeOptions:
    return DecodeOptions(
        archive=ArchiveLimits(max_files=1000, max_decompressed_bytes=1 << 30),
        max_voxels=512 * 512 * 100,
        modality="CT",
        model_window=HounsfieldWindow(lower_hu=-40, upper_hu=160),
    )


@pytest.fixture
def threshold() -> FakeSegmenter:
    return FakeSegmenter(by_threshold)


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return Phantom.draw(7)


@pytest.fixture(scope="session")
def clean_volume(phantom: Phantom) -> Volume:
    """The phantom without noise, coarse: 36 slices of 96 x 96, spacing 5 x 4.17 x 4.17 mm."""
    return phantom.sample(36, 96, noise_hu=0)[0]


@pytest.fixture
def client(settings: Settings, threshold: FakeSegmenter) -> Iterator[TestClient]:
    """A service whose model is the threshold fake."""
    with TestClient(create_app(settings, lambda _: threshold)) as running:
        yield running


@pytest.fixture(scope="session")
def model() -> ModelSession:
    """The model in the repository, on the CPU."""
    return ModelSession.open(Settings().model, "cpu")


@pytest.fixture(scope="session")
def quick_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file that is opened, and labels, in no time."""
    return write_threshold_model(tmp_path_factory.mktemp("model") / "threshold.onnx")


@pytest.fixture(scope="session")
def segmenter(model: ModelSession) -> Iterator[Batcher]:
    """That model with its queue."""
    batcher = Batcher(model, Settings().batch_slices)
    yield batcher
    batcher.close()


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """The real CT series, a zip of DICOM files.

    No data set is in the repository, so a clone has none unless it is told where.
    """
    data = Path(os.environ.get("LTS_TEST_DATA", ROOT.parent / "shared" / "data"))
    path = data / "ct" / "hcc-tace-seg-015-arterial.zip"
    if not path.exists():
        pytest.skip("no real CT: set LTS_TEST_DATA to the folder that holds ct/")
    return path
