"""The service in an environment that holds the `cpu` set and nothing else."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT
from dicom_files import zip_of

from benchmarks.load import free_port
from service.phantom import Phantom
from service.phantom_files import ct_datasets


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with requirements/cpu.txt.

    Without a pip of its own, and with nothing compiled ahead that the service may never import.
    """
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    lock = ROOT / "requirements" / "cpu.txt"
    pip = [sys.executable, "-m", "pip", "--python", python]
    options = ["--quiet", "--no-compile", "--require-hashes"]
    subprocess.run([*pip, "install", *options, "-r", lock], check=True, timeout=600)
    return python


def test_serves_without_the_training_set(clean_python: Path, tmp_path: Path) -> None:
    """It starts, is ready, segments a phantom, says no word of the patient, and ends on SIGTERM."""
    names = "('tensorflow', 'keras', 'onnx')"
    missing = f"from importlib.util import find_spec; print([n for n in {names} if find_spec(n)])"
    found = subprocess.run(
        [clean_python, "-c", missing], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
    port = free_port()
    environment = os.environ | {"LTS_PORT": str(port), "LTS_DATA_DIR": str(tmp_path / "data")}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [clean_python, "-m", "service", "serve"], cwd=ROOT, env=environment, stderr=output
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/health/ready", timeout=2)
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
        data = zip_of(ct_datasets(Phantom.draw(7).sample(8, 128)[0]))
        answers = {}
        for accept in ("application/json", "application/dicom", "application/zip"):
            headers = {"Content-Type": "application/zip", "Accept": accept}
            request = urllib.request.Request(f"{address}/v1/segment", data=data, headers=headers)
            with urllib.request.urlopen(request, timeout=60) as response:
                answers[accept] = response.read()
        answer = json.loads(answers["application/json"])
        assert answers["application/dicom"][128:132] == b"DICM"
        assert answer["model"]["provider"] == "CPUExecutionProvider"
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    finally:
        process.terminate()
        assert process.wait(timeout=40) in (0, -15)
    assert "Petra" not in log.read_text()
