from collections.abc import Iterator

import pytest
from pacs.servers import Archive, running
from pydicom import Dataset

from service.pacs import retry
from service.pacs.nodes import DicomwebNode
from service.phantom import Phantom
from service.phantom_files import ct_datasets
from service.settings import Settings


@pytest.fixture(scope="session")
def datasets() -> list[Dataset]:
    """A series of six slices of about 9 kB."""
    return ct_datasets(Phantom.draw(7).sample(6, 64, noise_hu=0)[0])


@pytest.fixture
def archive(datasets: list[Dataset]) -> Iterator[Archive]:
    with running(datasets) as archive:
        yield archive


@pytest.fixture
def node(archive: Archive) -> DicomwebNode:
    return DicomwebNode(name="archive", url=archive.url)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_PAUSE_S", 0.02)


@pytest.fixture
def quick() -> Settings:
    """Patient enough for a busy machine."""
    return Settings(pacs_timeout_s=2, pacs_retry_s=5)


@pytest.fixture
def hasty() -> Settings:
    """For servers that never answer."""
    return Settings(pacs_timeout_s=0.2, pacs_retry_s=0.3)


@pytest.fixture
def brief() -> Settings:
    """For failures that stay: patient, and two or three tries."""
    return Settings(pacs_timeout_s=2, pacs_retry_s=0.1)
