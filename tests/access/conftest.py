"""What is counted by time, on a clock of its own."""

import pytest
from access.clock import Clock

from service.access import rates


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(rates, "time", made)
    return made
