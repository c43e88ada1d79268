"""Who may send to the listener, how many at once, and what."""

import io
import socket
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from dicom_files import series
from highdicom import Volume
from listen.harness import association, events, kept, listening, send
from orthanc.real import require, tool
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE
from pynetdicom.association import Association

from benchmarks.listen import CALLER, TITLE, associate, wait
from service.listen import receiver
from service.listen.connection import PDU_BYTES
from service.listen.contexts import SOP_CLASSES, TRANSFER_SYNTAXES
from service.pacs.nodes import Caller


def test_echo(tmp_path: Path) -> None:
    """A caller of the list gets success for a C-ECHO."""
    with listening(tmp_path) as port, association(port) as made:
        assert made.send_c_echo().Status == 0


@pytest.mark.parametrize(
    ("caller", "title", "hosts", "reason", "code"),
    [
        ("STRANGER", TITLE, (), 3, "unknown_caller"),
        (CALLER, "OTHER", (), 7, "wrong_called_title"),
        (CALLER, TITLE, ("192.0.2.1",), 3, "unknown_address"),
    ],
)
def test_who_is_rejected(
    caller: str,
    title: str,
    hosts: tuple[str, ...],
    reason: int,
    code: str,
    tmp_path: Path,
    logged: io.StringIO,
) -> None:
    """A title not on the list, another called title and another address are rejected for good."""
    with listening(tmp_path, callers={CALLER: Caller(hosts=hosts)}) as port:
        entity = AE(caller)
        entity.add_requested_context(CTImageStorage)
        made = entity.associate("127.0.0.1", port, ae_title=title)
    assert made.is_rejected
    answer = made.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, reason)
    (line,) = events(logged, "association rejected")
    assert (line["code"], line["caller"]) == (code, caller)


def test_address_of_the_list(tmp_path: Path) -> None:
    """A caller that may come from this address only is let in from it, also as IPv6 writes it."""
    callers = {CALLER: Caller(hosts=("127.0.0.1",))}
    for host in ("127.0.0.1", "::"):  # the latter also takes IPv4
        with listening(tmp_path, callers=callers, listen_host=host) as port, association(port):
            pass


def test_a_defect_lets_nobody_in(
    tmp_path: Path, clean_volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever could not be checked gets nothing stored."""

    def defect(address: str) -> str:
        raise ValueError(address)

    monkeypatch.setattr(receiver, "_unmapped", defect)
    callers = {CALLER: Caller(hosts=("192.0.2.1",))}
    with listening(tmp_path, callers=callers) as port:
        assert send(port, series(clean_volume)[0]) == [None]
        assert not kept(tmp_path)


def test_titles_of_strangers_in_the_log(tmp_path: Path, logged: io.StringIO) -> None:
    """Whatever a stranger calls itself, the log has plain characters only."""
    with listening(tmp_path) as port:
        assert associate(port, [], caller='A"B^C D{E}') is None
    assert events(logged, "association rejected")[0]["caller"] == "A?B?C?D?E?"


def test_association_limit(tmp_path: Path, logged: io.StringIO) -> None:
    """One association more than allowed is rejected for now, and taken once another has ended."""
    with listening(tmp_path, listen_associations=1) as port:
        with association(port):
            entity = AE(CALLER)
            entity.add_requested_context(CTImageStorage)
            made = entity.associate("127.0.0.1", port, ae_title=TITLE)
            answer = made.acceptor.primitive
            assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
        assert wait(lambda: _associates(port), 5)
    assert events(logged, "association rejected")[0]["code"] == "too_many_associations"


def _associates(port: int) -> bool:
    made = associate(port, [])
    if made is not None:
        made.release()
    return made is not None


def test_other_classes_are_not_taken(tmp_path: Path, logged: io.StringIO) -> None:
    """Only CT is accepted of what an association offers; the log names the rest, once a caller."""
    with listening(tmp_path) as port:
        for _ in range(2):
            entity = AE(CALLER)
            for offered in (CTImageStorage, MRImageStorage, SecondaryCaptureImageStorage, "1.2.3"):
                entity.add_requested_context(offered)
            made = entity.associate("127.0.0.1", port, ae_title=TITLE)
            assert [it.abstract_syntax for it in made.accepted_contexts] == [CTImageStorage]
            made.release()
    (line,) = events(logged, "sop class not taken")
    assert line["code"] == "sop_class_not_taken"
    assert line["sop_class"] == (
        "MR Image Storage, Secondary Capture Image Storage, one of no standard"
    )


def test_what_is_offered_first_uncompressed(tmp_path: Path) -> None:
    """Every CT class is taken in every syntax; where several are offered, in one anybody writes."""
    with listening(tmp_path) as port:
        for sop_class in SOP_CLASSES:
            entity = AE(CALLER)
            entity.add_requested_context(sop_class, list(reversed(TRANSFER_SYNTAXES)))
            for syntax in TRANSFER_SYNTAXES:
                entity.add_requested_context(sop_class, syntax)
            made = entity.associate("127.0.0.1", port, ae_title=TITLE)
            chosen = [context.transfer_syntax[0] for context in made.accepted_contexts]
            made.release()
            assert ExplicitVRLittleEndian in chosen
            assert set(chosen) == set(TRANSFER_SYNTAXES)


@pytest.mark.parametrize("claimed", [PDU_BYTES * 2, 2**32 - 1])
def test_claimed_lengths_cost_nothing(claimed: int, tmp_path: Path, logged: io.StringIO) -> None:
    """A PDU that claims more than is taken ends the connection, also before any association."""
    with listening(tmp_path) as port:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"\x01\x00" + claimed.to_bytes(4, "big") + bytes(100))
            connection.settimeout(10)
            assert _closed(connection)
        with association(port):
            pass
    assert events(logged, "connection closed")[0]["code"] == "too_many_bytes"


def test_connections_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many may be open beside the associations, and each only for so long."""
    monkeypatch.setattr(receiver, "_REQUEST_S", 1)
    with (
        listening(tmp_path, listen_associations=1) as port,
        ExitStack() as connections,
    ):
        assert wait(lambda: association_count() == 0, 5)
        address = ("127.0.0.1", port)
        silent = [
            connections.enter_context(socket.create_connection(address, 10))
            for _ in range(1 + receiver._SPARE_CONNECTIONS)
        ]
        assert wait(lambda: association_count() == len(silent), 5)
        with socket.create_connection(address, 10) as one_more:
            assert _closed(one_more)
        assert all(map(_closed, silent))
        assert wait(lambda: _associates(port), 5)


def association_count() -> int:
    """How many the listener holds, with those that are nothing but a connection."""
    running = [thread for thread in threading.enumerate() if isinstance(thread, Association)]
    return sum(association.is_acceptor for association in running)


def _closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_objects_that_are_too_large(
    tmp_path: Path, clean_volume: Volume, logged: io.StringIO
) -> None:
    """An object of more bytes than the service takes in a request ends its association."""
    small, large = series(clean_volume)[:2]
    large.PixelData += bytes(200_000)
    with listening(tmp_path, max_request_bytes=100_000) as port:
        assert send(port, large) == [None]
        assert send(port, small, small, small, small, small, small) == [0] * 6
    assert events(logged, "connection closed")[0]["code"] == "too_many_bytes"


@pytest.mark.orthanc
def test_dcmtk_echo(tmp_path: Path) -> None:
    """dcmtk's client is answered, and told when its title is not on the list."""
    require()
    with listening(tmp_path) as port:
        codes = [
            subprocess.run(
                [tool("echoscu"), "-aet", title, "-aec", TITLE, "127.0.0.1", str(port)],
                capture_output=True,
                timeout=30,
                check=False,
            ).returncode
            for title in (CALLER, "STRANGER")
        ]
    assert codes[0] == 0
    assert codes[1] != 0
