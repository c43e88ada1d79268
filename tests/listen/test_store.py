"""What C-STORE answers, and what is on the disk by then."""

import errno
import io
import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import pynetdicom._config
import pytest
from dicom_files import series, to_bytes
from encoded_files import CODECS, NATIVE, set_frames, stored_values, written
from highdicom import Volume
from listen.harness import ask, association, events, kept, listening, names, raw_request, send
from orthanc.real import require, tool
from pydicom import Dataset, dcmread
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dsutils import encode

from benchmarks.listen import CALLER, TITLE, store, wait
from service.listen import durable, received
from service.listen.contexts import TRANSFER_SYNTAXES
from service.phantom_files import PHANTOM_NAME

OUT_OF_RESOURCES, DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0xA700, 0xA900, 0xC000
ELEMENTS_DIFFER, NOT_SUPPORTED = 0xB000, 0x0122


@pytest.fixture
def slices(clean_volume: Volume) -> list[Dataset]:
    return series(clean_volume)


def encoded(dataset: Dataset) -> bytes:
    """The dataset as its sender encodes it."""
    return encode(dataset, False, True)


def test_the_file_holds_what_came(tmp_path: Path, slices: list[Dataset]) -> None:
    """After success the file is there: file meta information, and the data set byte for byte."""
    with listening(tmp_path, listen_quiet_s=60) as port, association(port, slices[0]) as made:
        assert store(made, slices[0]) == 0
        (path,) = kept(tmp_path)
        data = path.read_bytes()
    assert data.endswith(encoded(slices[0]))
    assert dcmread(path).file_meta.MediaStorageSOPInstanceUID == slices[0].SOPInstanceUID
    assert path.stat().st_mode & 0o777 == 0o600


def test_success_comes_after_the_disk(
    tmp_path: Path, slices: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an object's bytes are not on the disk there is no answer, and no file of its name."""
    reached, go = threading.Event(), threading.Event()
    real = os.fsync

    def slow(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".part":
            reached.set()
            assert go.wait(30)
        real(descriptor)

    monkeypatch.setattr(durable.os, "fsync", slow)
    with listening(tmp_path, listen_quiet_s=60) as port, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(send, port, slices[0])
        assert reached.wait(30)
        assert not answer.done()
        assert kept(tmp_path) == []
        go.set()
        assert answer.result(30) == [0]
        assert len(kept(tmp_path)) == 1


def test_order_on_the_disk(
    tmp_path: Path, slices: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object's bytes are on the disk before it has its name, and the name before the answer."""
    steps, real = [], os.fsync

    def noted(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append((path.suffix, len(kept(tmp_path))))
        real(descriptor)

    with listening(tmp_path, listen_quiet_s=60) as port, association(port, *slices[:2]) as made:
        assert store(made, slices[0]) == 0
        monkeypatch.setattr(durable.os, "fsync", noted)
        assert store(made, slices[1]) == 0
        assert steps == [(".part", 1), ("", 2)]


SYNTAXES = [*NATIVE, *(codec.syntax for codec in CODECS.values())]


def test_list_of_syntaxes() -> None:
    """What the listener takes is what the service decodes, and lossy JPEG, which needs no test."""
    assert set(SYNTAXES) < set(TRANSFER_SYNTAXES)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_every_syntax_arrives_unchanged(
    syntax: UID, tmp_path: Path, slices: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object's file differs from the sender's in nothing but the file meta information."""
    monkeypatch.setattr(pynetdicom._config, "STORE_SEND_CHUNKED_DATASET", True)  # send it as it is
    dataset = slices[0]
    for codec in CODECS.values():
        if codec.syntax == syntax:
            set_frames(dataset, syntax, [codec.encode(stored_values(dataset))])
    dataset.file_meta.TransferSyntaxUID = syntax
    sent = tmp_path / "sent.dcm"
    sent.write_bytes(written(dataset))
    with listening(tmp_path, listen_quiet_s=60) as port, association(port, dataset) as made:
        assert made.send_c_store(sent).Status == 0
    (path,) = kept(tmp_path)
    assert data_set(path) == data_set(sent)
    assert dcmread(path).file_meta.TransferSyntaxUID == syntax
    assert dcmread(path).PixelData == dcmread(sent).PixelData


def data_set(path: Path) -> bytes:
    """A file without its file meta information, whose length its first element says."""
    data = path.read_bytes()
    return data[144 + int.from_bytes(data[140:144], "little") :]


def test_the_same_again(tmp_path: Path, slices: list[Dataset]) -> None:
    """An object that comes twice, also over two associations at once, is a success and one file."""
    with listening(tmp_path, listen_quiet_s=60) as port:
        assert send(port, slices[0], slices[0]) == [0, 0]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: send(port, slices[1]), range(4)))
        assert answers == [[0]] * 4
        assert len(kept(tmp_path)) == 2
        assert not [name for name in names(tmp_path) if name.endswith(".part")]


def test_another_of_the_same_uid(
    tmp_path: Path, slices: list[Dataset], logged: io.StringIO
) -> None:
    """The first object of a UID stays; the sender of another gets a warning, and the log a code."""
    first = encoded(slices[0])
    other = deepcopy(slices[0])
    other.InstanceNumber = 99
    with listening(tmp_path, listen_quiet_s=60) as port:
        assert send(port, slices[0], other) == [0, ELEMENTS_DIFFER]
        (path,) = kept(tmp_path)
        assert path.read_bytes().endswith(first)
    assert events(logged, "instance not kept")[0]["code"] == "duplicate_differs"


def test_watermark(tmp_path: Path, slices: list[Dataset], logged: io.StringIO) -> None:
    """Below the free bytes of the settings nothing is taken, which the log says once."""
    with listening(tmp_path, listen_min_free_bytes=2**62) as port:
        assert send(port, *slices[:3]) == [OUT_OF_RESOURCES] * 3
    assert kept(tmp_path) == []
    (line,) = events(logged, "out of room")
    assert line["free_bytes"] > 0


def test_full_disk(
    tmp_path: Path,
    slices: list[Dataset],
    logged: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A disk that fills up in the middle of an object leaves nothing of it, and can be mended."""

    def full(path: Path, parts: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with listening(tmp_path, listen_quiet_s=60) as port:
        with monkeypatch.context() as patch:
            patch.setattr(received, "write", full)
            assert send(port, *slices[:2]) == [OUT_OF_RESOURCES] * 2
            assert sum(name.count("-") for name in names(tmp_path)) == 0  # no folder of a series
        assert send(port, slices[0]) == [0]
        with monkeypatch.context() as patch:
            patch.setattr(received, "write", full)
            assert send(port, slices[1]) == [OUT_OF_RESOURCES]
        assert len(kept(tmp_path)) == 1
        assert not [name for name in names(tmp_path) if name.endswith(".part")]
        assert send(port, slices[1]) == [0]
    assert len(events(logged, "out of room")) == len(events(logged, "room again")) == 2


def test_a_disk_that_fails(
    tmp_path: Path,
    slices: list[Dataset],
    logged: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Any other error of the disk is a failure for the sender, and the log has its place."""

    def broken(path: Path, parts: object) -> None:
        raise OSError(errno.EIO, PHANTOM_NAME)

    with listening(tmp_path) as port:
        monkeypatch.setattr(received, "write", broken)
        assert send(port, slices[0]) == [0x0110]
    assert "in broken" in events(logged, "instance not kept")[0]["place"]
    assert PHANTOM_NAME not in logged.getvalue()


def test_what_is_not_taken(tmp_path: Path, slices: list[Dataset], logged: io.StringIO) -> None:
    """Damage, missing UIDs and other objects than announced have a failure each; others go on."""
    dataset = slices[0]
    without = [deepcopy(dataset) for _ in range(3)]
    del without[0].SeriesInstanceUID, without[1].StudyInstanceUID, without[2].SOPInstanceUID
    other = deepcopy(dataset)
    other.SOPInstanceUID = "1.2.3"
    cases = [
        (raw_request(dataset, b"\xff" * 64), {CANNOT_UNDERSTAND, DOES_NOT_MATCH}),
        (raw_request(dataset, encoded(dataset)[:100]), {CANNOT_UNDERSTAND, DOES_NOT_MATCH}),
        *((raw_request(dataset, encoded(it)), {DOES_NOT_MATCH}) for it in without),
        (raw_request(dataset, encoded(other)), {DOES_NOT_MATCH}),
        (
            raw_request(dataset, encoded(dataset), AffectedSOPClassUID=EnhancedCTImageStorage),
            {NOT_SUPPORTED},
        ),
        (raw_request(dataset, encoded(dataset)), {0}),
    ]
    with listening(tmp_path, listen_quiet_s=60) as port, association(port, dataset) as made:
        for request, expected in cases:
            assert ask(made, request) in expected
    assert len(kept(tmp_path)) == 1
    assert len(events(logged, "instance not taken")) == len(cases) - 1


def test_damaged_deflated(tmp_path: Path, slices: list[Dataset]) -> None:
    """A deflated data set that cannot be inflated is not understood."""
    dataset = slices[0]
    dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1.99")
    with listening(tmp_path) as port, association(port, dataset) as made:
        assert ask(made, raw_request(dataset, b"\xff" * 64)) == CANNOT_UNDERSTAND


def test_another_modality_in_the_series(tmp_path: Path, slices: list[Dataset]) -> None:
    """What is no CT but comes as one is kept; the service says what becomes of it."""
    slices[1].Modality = "PT"
    with listening(tmp_path, listen_quiet_s=60) as port:
        assert send(port, *slices[:2]) == [0, 0]
        assert len(kept(tmp_path)) == 2


def test_half_an_object(tmp_path: Path, slices: list[Dataset]) -> None:
    """An association that is aborted in the middle of an object leaves nothing of it."""
    with listening(tmp_path, listen_quiet_s=60) as port:
        with association(port, slices[0]) as made:
            context = next(
                it for it in made.accepted_contexts if it.abstract_syntax == CTImageStorage
            )
            message = C_STORE_RQ()
            message.primitive_to_message(raw_request(slices[0], encoded(slices[0])))
            fragments = list(message.encode_msg(context.context_id, 2048))
            for fragment in fragments[:-1]:
                made.dul.send_pdu(fragment)
            assert wait(made.dul.to_provider_queue.empty, 5)
            made.abort()
        assert send(port, slices[1]) == [0]
        assert len(kept(tmp_path)) == 1


def test_the_end_waits_for_what_is_stored(
    tmp_path: Path, slices: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that is being stored when the listener is to end is, and its sender hears so."""
    began, real = threading.Event(), received.write

    def slow(path: Path, parts: object) -> None:
        began.set()
        time.sleep(0.5)
        real(path, parts)

    with ThreadPoolExecutor(1) as pool:
        with listening(tmp_path, listen_quiet_s=60) as port:
            monkeypatch.setattr(received, "write", slow)
            began.clear()
            answers = pool.submit(send, port, *slices[:5])
            assert began.wait(10)
        assert answers.result(30)[:1] == [0]
        acknowledged = answers.result().count(0)
    assert acknowledged < 5
    assert len(kept(tmp_path)) == acknowledged


def test_names_tell_nothing(tmp_path: Path, slices: list[Dataset]) -> None:
    """No UID and no text of an object is in the name of a file or a folder."""
    with listening(tmp_path, listen_quiet_s=60) as port:
        send(port, *slices[:2])
        found = " ".join(names(tmp_path))
    for text in (slices[0].SOPInstanceUID, slices[0].SeriesInstanceUID, "PHANTOM", CALLER):
        assert text not in found


@pytest.mark.orthanc
def test_dcmtk_sends(tmp_path: Path, slices: list[Dataset]) -> None:
    """dcmtk's client sends a series, and every instance of it is kept."""
    require()
    sent = tmp_path / "sent"
    sent.mkdir()
    for index, dataset in enumerate(slices):
        (sent / f"{index}.dcm").write_bytes(to_bytes(dataset))
    with listening(tmp_path, listen_quiet_s=60) as port:
        command = [tool("storescu"), "-aet", CALLER, "-aec", TITLE, "--scan-directories"]
        subprocess.run([*command, "127.0.0.1", str(port), sent], check=True, timeout=60)
        uids = {dcmread(path).SOPInstanceUID for path in kept(tmp_path)}
    assert uids == {dataset.SOPInstanceUID for dataset in slices}
