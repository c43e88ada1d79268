"""Prometheus' tool."""

import os
import shutil

import pytest


@pytest.fixture(scope="session")
def promtool() -> str:
    """Its path. Fails in CI, and skips elsewhere, where Debian's package is not installed."""
    found = shutil.which("promtool", path=f"{os.environ['PATH']}:/usr/bin:/usr/local/bin")
    if found is not None:
        return found
    reason = "not installed: promtool (Debian: prometheus)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
