"""A cluster for each module, and what its processes must give."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.harness import Cluster, Expected, require
from dicom_files import series, zip_of

from reliability.parts import nginx, postgres, s3
from reliability.parts.postgres import Postgres
from reliability.parts.s3 import S3
from service.inference.batching import Batcher
from service.inference.session import ModelSession
from service.phantom import Phantom
from service.pipeline import Options, run
from service.settings import Settings


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, pytest.TestReport]:
    """A failure shows what the processes said last."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, Cluster):
        for process in cluster.processes:
            text = process.log.read_text(errors="replace") if process.log.exists() else "no log"
            report.sections.append((f"log of {process.name}", text[-2500:]))
    return report


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, quick_model: Path) -> Iterator[Cluster]:
    require(postgres.missing())
    require(s3.missing())
    with Postgres.start() as database, S3.start() as bucket:
        made = Cluster(database, bucket, tmp_path_factory.mktemp("cluster"), quick_model)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="session")
def has_nginx() -> None:
    require(nginx.missing())


def _study(slices: int) -> bytes:
    return zip_of(series(Phantom.draw(7).sample(slices, 96, seed=1)[0]))


@pytest.fixture(scope="session")
def study() -> bytes:
    """Four slices, each a batch."""
    return _study(4)


@pytest.fixture(scope="session")
def long_study() -> bytes:
    """16 slices, each a batch."""
    return _study(16)


@pytest.fixture(scope="session")
def expected(study: bytes, quick_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Expected:
    """An undisturbed run of the study."""
    settings = Settings()
    model = Batcher(ModelSession.open(quick_model, "cpu", 1), settings.batch_slices)
    result = run([study], Options(), model, settings)
    model.close()
    return Expected(result, tmp_path_factory.mktemp("expected"))
