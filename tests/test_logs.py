"""Logs hold what the service says, and nothing that a library says."""

import json
import logging
import sys

import pytest

from service.logs import write_json
from service.phantom_files import PHANTOM_NAME


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
        logging.getLogger().handlers.clear()
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "heard"
