"""`python -m service`: the same flow without a server, and a server that refuses open doors."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from conftest import ROOT
from typer.testing import CliRunner

from service.__main__ import app
from service.phantom import Phantom

RUNNER = CliRunner()


def service(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_segment_a_folder(tmp_path: Path) -> None:
    """A phantom written as DICOM is segmented with the model of the repository."""
    written = RUNNER.invoke(
        app, ["phantom", "--out", str(tmp_path / "ct"), "--slices", "12", "--size", "128"]
    )
    assert written.exit_code == 0, written.output
    assert f"liver {Phantom.draw(7).liver_ml:.1f} mL" in written.output
    done = service("segment", tmp_path / "ct", "--out", tmp_path / "result")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result" / "result.json").read_text())
    assert result["source"]["slices"] == 12
    assert result["model"]["name"] == "liver-tumor"
    names = {str(p.relative_to(tmp_path / "result")) for p in (tmp_path / "result").rglob("*")}
    assert {"contours.json", "mask.dcm", "mask.nii.gz", "preview.png"} <= names
    assert {f"overlays/{index:04d}.png" for index in range(12)} <= names


def test_segment_a_folder_of_images(tmp_path: Path) -> None:
    """Images of a folder are a stack in the natural order of their names."""
    (tmp_path / "stack").mkdir()
    for number in (1, 2, 10):
        picture = np.full((64, 64), 20 * number, np.uint8)
        cv2.imwrite(str(tmp_path / "stack" / f"slice{number}.png"), picture)
    done = RUNNER.invoke(app, ["segment", str(tmp_path / "stack"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    overlays = sorted((tmp_path / "out" / "overlays").iterdir())
    greys = [int(np.median(cv2.imread(str(path)))) for path in overlays]
    assert greys == pytest.approx([20, 40, 200], abs=1)


def test_segment_says_what_is_wrong(tmp_path: Path) -> None:
    """A refusal is one line with the sentence of its code, and exit status 1."""
    (tmp_path / "letter.txt").write_text("Dear colleague")
    done = service("segment", tmp_path, "--out", tmp_path / "result")
    assert done.returncode == 1
    assert "of no format that the service takes" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])  # noqa: S104
def test_open_addresses_need_an_explicit_word(host: str) -> None:
    """Beyond loopback the service starts only if told that nobody is asked who calls."""
    done = service("serve", LTS_HOST=host)
    assert done.returncode == 1
    assert "LTS_ALLOW_UNAUTHENTICATED" in done.stderr


def test_cuda_that_is_not_there_ends_at_start() -> None:
    """LTS_DEVICE=cuda names what is missing, and nothing ever listens."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.fail("the development set is installed with `cpu`; a GPU build belongs in .venv")
    done = service("serve", LTS_DEVICE="cuda")
    assert done.returncode == 1
    assert "install the set `gpu`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_folder_has_one_service(tmp_path: Path) -> None:
    """A second one on the same folder would take up the first one's jobs; it ends at start."""
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = service("serve", LTS_DATA_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "another process" in done.stderr


def test_a_data_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """The service says so and ends."""
    (tmp_path / "file").touch()
    done = service("serve", LTS_DATA_DIR=str(tmp_path / "file"))
    assert done.returncode == 1
    assert "LTS_DATA_DIR" in done.stderr
    assert "Traceback" not in done.stderr
