from collections.abc import Iterator

import pytest
from security.harness import app, serving


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A service that asks nobody for a key, with small limits, on a port of its own."""
    limits = {
        "max_request_bytes": 4_000_000,
        "max_decompressed_bytes": 3_000_000,
        "max_files": 50,
        "max_voxels": 1_000_000,
    }
    with serving(app(tmp_path_factory.mktemp("data"), **limits)) as listening:
        yield listening
