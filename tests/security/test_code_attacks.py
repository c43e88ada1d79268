"""Data that would become code: pickles, YAML, and a model that reads other files."""

import ast
import base64
import os
import pickle
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from dbos import DBOSPortableJSONSerializer
from dbos._serialization import (
    DefaultSerializer,
    deserialize_args,
    deserialize_exception,
    deserialize_value,
)
from fakes import FakeSegmenter, by_threshold
from fastapi.testclient import TestClient
from http_helpers import PNG, WAIT_S, running, slice_png
from onnx import TensorProto

from service.errors import InvalidModel, InvalidPacsFile
from service.inference.session import ModelSession
from service.jobs import engine, housekeeping, worker
from service.pacs.nodes import read_pacs

URL = "/v1/segmentations"

SERVICE = Path(__file__).parent.parent.parent / "service"

RUNS_WHAT_IT_READS = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml",
    "ruamel", "code", "codeop", "subprocess", "pty", "imp", "runpy", "lxml", "xmlrpc",
}  # fmt: skip
CALLS = {"eval", "exec", "compile", "__import__"}


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def called(tree: ast.AST) -> set[str]:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {call.id for call in calls if isinstance(call, ast.Name)}


def test_the_service_runs_nothing_that_it_reads() -> None:
    """No module of it takes what turns data into code, or starts another program."""
    modules = list(SERVICE.rglob("*.py"))
    assert len(modules) > 50
    for path in modules:
        text = path.read_text()
        tree = ast.parse(text)
        assert not imported(tree) & RUNS_WHAT_IT_READS, path
        assert not called(tree) & CALLS, path
        assert "allow_pickle=True" not in text, path
        assert "os.system(" not in text, path


class Planted:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o700)


def test_what_is_planted_works(tmp_path: Path) -> None:
    """Else the next tests would show nothing."""
    pickle.loads(pickle.dumps(Planted(tmp_path / "executed")))  # noqa: S301  # that is the test
    assert (tmp_path / "executed").exists()


def test_pickles_in_the_engine_s_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that names pickle as its form is not loaded, and its job is begun anew."""
    monkeypatch.setattr(housekeeping, "BEAT_S", 0.02)
    monkeypatch.setattr(engine, "_POLL_S", 0.05)
    monkeypatch.setattr(worker, "BEGIN_S", 2)
    entered, go_on = threading.Event(), threading.Event()

    def gated(hu: np.ndarray) -> np.ndarray:
        entered.set()
        assert go_on.wait(WAIT_S)
        return by_threshold(hu)

    folder, executed = tmp_path / "data", tmp_path / "executed"
    headers = PNG | {"Prefer": "respond-async"}
    with running(folder, FakeSegmenter(gated)) as client:
        accepted = client.post(URL, content=slice_png(), headers=headers)
        assert entered.wait(WAIT_S)
        threading.Timer(0.2, go_on.set).start()
    plant(folder / "steps.sqlite", executed)
    with running(folder, FakeSegmenter(by_threshold)) as client:
        assert until_ended(client, accepted.headers["location"]) == "succeeded"
    assert not executed.exists()


def plant(database: Path, executed: Path) -> None:
    """Let the input of the one workflow be a pickle that makes this folder."""
    text = base64.b64encode(pickle.dumps(Planted(executed))).decode()
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in (
            "UPDATE workflow_status SET serialization = 'py_pickle', inputs = ?",
            "UPDATE workflow_input SET inputs = ?",
        ):
            assert connection.execute(statement, (text,)).rowcount == 1


@pytest.mark.parametrize("read", [deserialize_value, deserialize_args, deserialize_exception])
def test_no_row_is_a_pickle(tmp_path: Path, read: Callable[..., object]) -> None:
    """Inputs, outputs and errors of any row: the engine's own name for pickle opens none."""
    text = base64.b64encode(pickle.dumps(Planted(tmp_path / "executed"))).decode()
    with pytest.raises(TypeError, match="pickle"):
        read(text, DefaultSerializer().name(), DBOSPortableJSONSerializer())
    assert not (tmp_path / "executed").exists()


def until_ended(client: TestClient, address: str) -> str:
    deadline = time.monotonic() + WAIT_S
    while (status := client.get(address).json()["status"]) in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return str(status)


@pytest.mark.parametrize(
    "content",
    [
        b"nodes: !!python/object/apply:os.system [true]\n",
        pickle.dumps({"nodes": {}}),
        b'<?xml version="1.0"?><nodes/>',
        b'{"nodes": {}}',
    ],
)
def test_the_file_of_nodes_is_toml(tmp_path: Path, content: bytes) -> None:
    """And nothing else."""
    path = tmp_path / "pacs.toml"
    path.write_bytes(content)
    with pytest.raises(InvalidPacsFile):
        read_pacs(path)


@pytest.mark.parametrize("place", ["weights.bin", "./weights.bin", "../weights.bin", "/dev/zero"])
def test_a_model_is_one_file(
    quick_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A graph that names another file, beside it or anywhere, is not loaded: its hash would lie."""
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path.parent):
        (folder / "weights.bin").write_bytes(bytes(64))
    model = onnx.load(quick_model)
    (hundred,) = (each for each in model.graph.initializer if each.name == "hundred")
    hundred.ClearField("int32_data")
    hundred.ClearField("raw_data")
    hundred.data_location = TensorProto.EXTERNAL
    for key, value in (("location", place), ("offset", "0"), ("length", "1")):
        entry = hundred.external_data.add()
        entry.key, entry.value = key, value
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidModel, match="cannot be loaded"):
        ModelSession.open(path, "cpu")
    assert ModelSession.open(quick_model, "cpu").provider


@pytest.mark.parametrize("content", [b"", pickle.dumps([1]), b"\x80\x04K\x01.", b"PK\x03\x04"])
def test_a_model_is_onnx(tmp_path: Path, content: bytes) -> None:
    """No pickle of another framework is opened."""
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidModel):
        ModelSession.open(path, "cpu")
