"""The examples of docs/integration.md run, word for word but for ports and the phantom's slices."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT
from orthanc.real import free_port, require

pytestmark = pytest.mark.orthanc

PORTS = ("8000", "8042", "4242", "11112")

INSTALL = '$PYTHON -m pip install --quiet "$CLONE/openapi/client"'
"""The one line that is replaced, by its effect: a test installs nothing."""


def script() -> str:
    """All blocks that are marked as examples, in their order, on ports of this test."""
    text = (ROOT / "docs" / "integration.md").read_text()
    blocks = "\n".join(re.findall(r"```sh example\n(.*?)```", text, re.DOTALL))
    assert INSTALL in blocks
    blocks = blocks.replace(INSTALL, 'export PYTHONPATH="$PYTHONPATH:$CLONE/openapi/client"')
    blocks = blocks.replace("$PWD/.venv/bin/python", sys.executable)
    assert blocks.count(" phantom --out") == 2
    blocks = blocks.replace(" phantom --out", " phantom --slices 12 --out")
    for port in PORTS:
        assert port in blocks
        blocks = re.sub(rf"\b{port}\b", str(free_port()), blocks)
    return blocks


def test_examples_run(tmp_path: Path) -> None:
    """From the PACS file to the Python client: every command ends well, every object is there."""
    require()
    text = script()
    (port,) = set(re.findall(r"http://127.0.0.1:(\d+)/health", text))
    (listener,) = set(re.findall(r"LIVERTUMOR (?:\+sd )?127.0.0.1 (\d+)", text))
    environment = {
        **os.environ,
        "LTS_PORT": port,
        "LTS_DEVICE": "cpu",
        "LTS_LISTEN_PORT": listener,
        "LTS_SERVICE_URL": f"http://127.0.0.1:{port}",
        "TMPDIR": str(tmp_path),
    }
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=300)
    finally:
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(process.pid, signal.SIGTERM)
    assert process.returncode == 0, said
    (mask,) = tmp_path.glob("*/mask.dcm")
    folder = mask.parent
    for name in ("mask.dcm", "labelmap.dcm", "report.dcm", "rtstruct.dcm", "overlays.zip",
                 "report.fhir.json", "report-by-client.dcm"):  # fmt: skip
        assert (folder / name).stat().st_size > 1000, name
    assert "lesion 1: " in said
    for log in ("serve.log", "listen.log"):
        written = (folder / log).read_text()
        assert "PHANTOM" not in written
        assert "Petra" not in written
