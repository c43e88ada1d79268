"""The imports point the way that the design says."""

import re
import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def test_layers() -> None:
    """import-linter's contracts in pyproject.toml hold."""
    command = Path(sys.executable).parent / "lint-imports"
    checked = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_the_service_imports_no_training_framework() -> None:
    """Serving loads neither TensorFlow, Keras nor the packages beside the service."""
    script = (
        "import sys, service.api.app, service.__main__, service.pipeline;"
        "print(sorted({'tensorflow', 'keras', 'onnx', 'training', 'export'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_lock_files_name_no_download_address() -> None:
    """They hold exact versions and hashes, and nothing of where they came from."""
    for lock in (ROOT / "requirements").glob("*.txt"):
        lines = [line.strip().rstrip(" \\") for line in lock.read_text().splitlines()]
        assert all(
            line.startswith("--hash=sha256:") or "==" in line or line.startswith("#")
            for line in lines
            if line
        )
        assert "://" not in lock.read_text()


def test_cpu_and_gpu_sets_exclude_each_other() -> None:
    """Each serving set holds its own ONNX Runtime, and none holds a training framework."""
    cpu, gpu = ((ROOT / "requirements" / f"{name}.txt").read_text() for name in ("cpu", "gpu"))
    assert "\nonnxruntime==" in cpu
    assert "onnxruntime-gpu==" not in cpu
    assert "onnxruntime-gpu==" in gpu
    assert "\nonnxruntime==" not in gpu
    assert "tensorflow==" not in cpu + gpu


def test_the_servers_compared_with_run_the_same_model_code() -> None:
    """What decides a server's speed beside itself has one version in both environments."""
    packages = ("numpy", "onnxruntime", "opencv-python-headless", "pydicom")
    dev, bench = (
        dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements" / name).read_text(), re.M))
        for name in ("dev.txt", "bench.txt")
    )
    assert {name: bench[name] for name in packages} == {name: dev[name] for name in packages}
    assert not {"litserve", "bentoml"} & set(dev)
