"""Logs hold what the service says, and nothing that a library says."""

import io
import json
import logging
import sys
import threading

import pytest
from conftest import without_patient

from service import logs
from service.logs import write_json
from service.phantom_files import PHANTOM_ID, PHANTOM_NAME


@pytest.mark.parametrize("library", ["pydicom", "dbos", "PIL.Image"])
def test_libraries_are_not_heard(library: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even one whose logger has a level of its own, such as pydicom's."""
    logger, before = logging.getLogger(library), logging.getLogger(library).level
    try:
        write_json(sys.stderr)
        logger.setLevel(logging.WARNING)
        logger.warning("Unknown encoding %s", PHANTOM_NAME)
        logging.getLogger("service.api").info("heard")
    finally:
        logger.setLevel(before)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "heard"


@pytest.mark.parametrize(
    ("place", "said", "outcome"),
    [
        ("stderr", PHANTOM_NAME, "failed"),
        ("stdout", PHANTOM_NAME.split("^")[1], "failed"),
        ("stderr", f"patient={PHANTOM_ID}", "failed"),
        ("log", f"INFO     service.api:app.py:1 {PHANTOM_ID}", "failed"),
        ("log", f"WARNING  dbos:test.py:1 {PHANTOM_ID}", "passed"),
        ("stderr", "12 slices", "passed"),
    ],
)
def test_a_test_fails_whose_log_names_the_patient(place: str, said: str, outcome: str) -> None:
    """So the log of the whole run of the tests is looked through."""
    report = pytest.TestReport(
        nodeid="some test", location=("", 0, ""), keywords={}, outcome="passed", longrepr=None,
        when="call", sections=[(f"Captured {place} call", said)],
    )  # fmt: skip
    assert without_patient(report).outcome == outcome


def test_a_thread_that_fails_is_logged_by_its_place(logged: io.StringIO) -> None:
    """What its exception says is not: it may come from a file or from the network."""

    def fail() -> None:
        raise KeyError(PHANTOM_NAME)

    threading.excepthook = logs._thread_failed
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    (line,) = (one for one in lines if one["event"] == "thread failed")
    assert line["place"].startswith("KeyError in fail")
    assert PHANTOM_NAME not in logged.getvalue()
