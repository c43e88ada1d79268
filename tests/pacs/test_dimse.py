"""Delivering by DIMSE to destinations that take all, some or none."""

import io
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from socketserver import TCPServer
from typing import Any

import pytest
from dicom_files import to_bytes
from encoded_files import rle, set_frames, stored_values
from pacs.servers import as_instance, unused_port
from pydicom import Dataset, dcmread
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
)
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from service.errors import (
    Cancelled,
    DeadlineExceeded,
    OriginError,
    OriginInvalid,
    OriginRefused,
    OriginUnreachable,
)
from service.pacs import dimse, receipts
from service.pacs.delivery import Receipt, deliver
from service.pacs.dimse import echo
from service.pacs.nodes import DimseNode
from service.pacs.receipts import Instance
from service.phantom_files import PHANTOM_NAME
from service.settings import Settings
from service.stopping import StopSignal


@dataclass
class Destination:
    """A C-STORE SCP; `statuses` by instance, `on_store` instead of a status."""

    port: int = 0
    received: list[Dataset] = field(default_factory=list)
    callers: list[tuple[str, str]] = field(default_factory=list)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    on_store: list[Callable[[evt.Event], int]] = field(default_factory=list)
    on_request: list[Callable[[evt.Event], None]] = field(default_factory=list)
    echo_status: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def node(self) -> DimseNode:
        return DimseNode(name="store", ae_title="STORE", host="127.0.0.1", port=self.port)

    def store(self, event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        self.received.append(dataset)
        if self.on_store:
            return self.on_store.pop(0)(event)
        told = self.statuses.get(str(dataset.SOPInstanceUID), [0])
        return told.pop(0) if len(told) > 1 else told[0]

    def request(self, event: evt.Event) -> None:
        connection = event.assoc.dul.socket.socket
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        titles = event.assoc.requestor.primitive
        self.callers.append((titles.calling_ae_title, titles.called_ae_title))
        if self.on_request:
            self.on_request.pop(0)(event)


@contextmanager
def serving(
    syntaxes: Sequence[str] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    classes: Sequence[str] = (CTImageStorage, Verification),
    more: Sequence[tuple[Any, ...]] = (),
    **attributes: object,
) -> Iterator[Destination]:
    destination = Destination()
    entity = AE("STORE")
    for sop_class in classes:
        entity.add_supported_context(sop_class, list(syntaxes))
    for name, value in attributes.items():
        setattr(entity, name, value)
    handlers = [
        (evt.EVT_C_STORE, destination.store),
        (evt.EVT_C_ECHO, lambda _: destination.echo_status),
        (evt.EVT_REQUESTED, destination.request),
        *((event, handler, [destination]) for event, handler in more),
    ]
    server = entity.make_server(("127.0.0.1", 0), evt_handlers=handlers)
    destination.port = server.socket.getsockname()[1]
    # In a thread of the test: pynetdicom's own looks only every half second whether to end.
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield destination
    finally:
        destination.closing.set()
        for association in entity.active_associations:
            association.abort()
        TCPServer.shutdown(server)
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    """pynetdicom's threads would keep the process alive."""
    before = set(threading.enumerate())
    yield
    give_up = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < give_up:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


@pytest.fixture
def instances(datasets: list[Dataset]) -> list[Instance]:
    return [as_instance(dataset) for dataset in datasets]


def ends(told: Sequence[Receipt]) -> list[tuple[str, str | None]]:
    return [(receipt.status, receipt.code) for receipt in told]


ALL = [("stored", None)] * 6


def test_all_stored(instances: list[Instance], datasets: list[Dataset], quick: Settings) -> None:
    """In one association, under the titles of the file and the settings, in order."""
    with serving() as destination:
        assert ends(deliver(destination.node, instances, quick, StopSignal())) == ALL
        own = destination.node.model_copy(update={"calling_ae_title": "OTHER"})
        assert ends(deliver(own, instances[:1], quick, StopSignal())) == ALL[:1]
    assert destination.callers == [("LIVERTUMOR", "STORE"), ("OTHER", "STORE")]
    assert destination.received[:6] == datasets


def test_statuses(instances: list[Instance], datasets: list[Dataset], quick: Settings) -> None:
    """Success, warnings, a duplicate, and refusals with their codes; nothing is sent twice."""
    codes = (0xB000, 0xB007, 0x0111, 0xA900, 0xC000, 0x0122)
    with serving() as destination:
        destination.statuses = {
            instance.sop_instance_uid: [code]
            for instance, code in zip(instances, codes, strict=True)
        }
        told = deliver(destination.node, instances, quick, StopSignal())
    assert ends(told) == [
        ("stored", "0xB000"),
        ("stored", "0xB007"),
        ("already_stored", "0x0111"),
        ("refused", "0xA900"),
        ("refused", "0xC000"),
        ("refused", "0x0122"),
    ]
    assert len(destination.received) == 6


def test_out_of_resources_passes(instances: list[Instance], quick: Settings) -> None:
    """0xA7xx is tried again, for that instance only."""
    with serving() as destination:
        destination.statuses = {instances[2].sop_instance_uid: [0xA700, 0xA701, 0]}
        assert ends(deliver(destination.node, instances, quick, StopSignal())) == ALL
    assert len(destination.received) == 8


def test_resources_that_stay_used(instances: list[Instance], brief: Settings) -> None:
    with serving() as destination:
        destination.statuses = {instances[2].sop_instance_uid: [0xA700]}
        told = deliver(destination.node, instances, brief, StopSignal())
    assert ends(told) == [("failed", "0xA700") if i == 2 else ("stored", None) for i in range(6)]
    assert len(destination.callers) > 1


@pytest.mark.parametrize("own", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("taken", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_other_transfer_syntaxes(
    datasets: list[Dataset], quick: Settings, own: str, taken: str
) -> None:
    """What is not compressed is written as the destination takes it."""
    dataset = dcmread(io.BytesIO(to_bytes(datasets[0])))
    dataset.file_meta.TransferSyntaxUID = own
    with serving([taken]) as destination:
        told = deliver(destination.node, [as_instance(dataset)], quick, StopSignal())
    assert ends(told) == [("stored", None)]
    (received,) = destination.received
    assert received.file_meta.TransferSyntaxUID == taken
    assert received == datasets[0]


@pytest.mark.parametrize("taken", [[ImplicitVRLittleEndian], [ImplicitVRLittleEndian, RLELossless]])
def test_compressed_objects(
    datasets: list[Dataset], quick: Settings, instances: list[Instance], taken: list[str]
) -> None:
    """Are sent as they are, or refused."""
    dataset = dcmread(io.BytesIO(to_bytes(datasets[0])))
    set_frames(dataset, RLELossless, [rle(stored_values(dataset))])
    with serving(taken) as destination:
        told = deliver(destination.node, [as_instance(dataset), instances[1]], quick, StopSignal())
    assert ends(told)[0] == (("stored", None) if len(taken) > 1 else ("refused", "no_context"))
    assert ends(told)[1] == ("stored", None)
    if len(taken) > 1:
        assert destination.received[0].PixelData == dataset.PixelData


@pytest.mark.parametrize("others", [0, 1])
def test_a_class_that_is_not_taken(
    datasets: list[Dataset], quick: Settings, instances: list[Instance], others: int
) -> None:
    """Alone, and beside others that are."""
    dataset = dcmread(io.BytesIO(to_bytes(datasets[0])))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    with serving() as destination:
        sent = [as_instance(dataset), *instances[1 : 1 + others]]
        told = deliver(destination.node, sent, quick, StopSignal())
    assert ends(told) == [("refused", "no_context"), *ALL[:others]]


def reject(result: int) -> Callable[[evt.Event], None]:
    def behave(event: evt.Event) -> None:
        event.assoc.acse.send_reject(result, 0x01, 0x01)
        event.assoc.kill()

    return behave


def test_rejected_for_now(instances: list[Instance], quick: Settings, brief: Settings) -> None:
    with serving() as destination:
        destination.on_request = [reject(2), reject(2)]
        assert ends(deliver(destination.node, instances, quick, StopSignal())) == ALL
        destination.on_request = [reject(2)] * 20
        told = deliver(destination.node, instances, brief, StopSignal())
    assert ends(told) == [("failed", "rejected")] * 6


def test_rejected_for_good(instances: list[Instance], quick: Settings) -> None:
    """A title that it does not know: asking again would not help."""
    with serving(require_called_aet=True) as destination:
        node = destination.node.model_copy(update={"ae_title": "NOBODY"})
        assert ends(deliver(node, instances, quick, StopSignal())) == [("refused", "rejected")] * 6
        with pytest.raises(OriginRefused, match="rejects"):
            echo(node, quick, StopSignal())
    assert len(destination.callers) == 2


def abort(event: evt.Event) -> int:
    event.assoc.abort()
    return 0


def disconnect(event: evt.Event) -> int:
    event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    return 0


@pytest.mark.parametrize("end", [abort, disconnect])
def test_aborted_and_then_fine(
    instances: list[Instance],
    datasets: list[Dataset],
    quick: Settings,
    end: Callable[[evt.Event], int],
) -> None:
    """What was stored before is not sent again; what was on its way is."""

    def well(_: evt.Event) -> int:
        return 0

    with serving() as destination:
        destination.on_store = [well, well, end, end]
        assert ends(deliver(destination.node, instances, quick, StopSignal())) == ALL
    order = [0, 1, 2, 2, 2, 3, 4, 5]
    assert [d.SOPInstanceUID for d in destination.received] == [
        datasets[index].SOPInstanceUID for index in order
    ]


def test_aborted_every_time(instances: list[Instance], brief: Settings) -> None:
    with serving() as destination:
        destination.on_store = [abort] * 50
        told = deliver(destination.node, instances, brief, StopSignal())
    assert ends(told) == [("failed", "aborted")] * 6


def test_batches(
    instances: list[Instance], quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large deliveries take several associations."""
    monkeypatch.setattr(receipts, "_BATCH_INSTANCES", 4)
    with serving() as destination:
        assert ends(deliver(destination.node, instances, quick, StopSignal())) == ALL
    assert len(destination.callers) == 2


@pytest.mark.parametrize("limit", [0, 4096, 2**31])
def test_sizes_of_pdus(datasets: list[Dataset], quick: Settings, limit: int) -> None:
    """As the destination asks for, and bounded where it has no bound."""
    largest = []

    def count(event: evt.Event, _: Destination) -> None:
        largest.append(len(event.data))

    dataset = dcmread(io.BytesIO(to_bytes(datasets[0])))
    dataset.Rows, dataset.PixelData = 64 * 200, dataset.PixelData * 200
    with serving(more=[(evt.EVT_DATA_RECV, count)], maximum_pdu_size=limit) as destination:
        told = deliver(destination.node, [as_instance(dataset)], quick, StopSignal())
    assert ends(told) == [("stored", None)]
    assert destination.received[0].PixelData == dataset.PixelData
    assert max(largest) <= (4096 if limit == 4096 else dimse._PDU_BYTES) + 6


@contextmanager
def peer(behave: Callable[[socket.socket, threading.Event], None]) -> Iterator[DimseNode]:
    """Does with each connection as it is told."""
    closing = threading.Event()

    def accept() -> None:
        while not closing.is_set():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            with connection:
                try:
                    behave(connection, closing)
                except OSError:
                    continue  # the client may leave when it likes

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(10)
        listening.settimeout(0.05)
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            port = listening.getsockname()[1]
            yield DimseNode(name="store", ae_title="STORE", host="127.0.0.1", port=port)
        finally:
            closing.set()
            thread.join()


def silent(connection: socket.socket, closing: threading.Event) -> None:
    connection.settimeout(3)
    while connection.recv(4096):
        pass


def half_a_pdu(connection: socket.socket, closing: threading.Event) -> None:
    connection.sendall(b"\x02\x00\x00")
    silent(connection, closing)


def trickling(connection: socket.socket, closing: threading.Event) -> None:
    connection.sendall(b"\x02\x00\x7f\xff\xff\xff")
    for _ in range(300):
        if closing.wait(0.03):
            return
        connection.sendall(b"\0")


def leaving(connection: socket.socket, closing: threading.Event) -> None:
    pass


def garbage(connection: socket.socket, closing: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)


@pytest.mark.parametrize("behave", [silent, half_a_pdu, trickling, leaving, garbage])
def test_peers_that_speak_no_dicom(
    instances: list[Instance],
    hasty: Settings,
    behave: Callable[[socket.socket, threading.Event], None],
) -> None:
    """Are given up after the time-out, also where they send a byte now and then."""
    started = time.monotonic()
    with peer(behave) as node:
        told = deliver(node, instances, hasty, StopSignal())
        with pytest.raises(OriginUnreachable):
            echo(node, hasty, StopSignal())
    assert ends(told) == [("failed", "unreachable")] * 6
    assert time.monotonic() - started < 6


def wait(event: evt.Event, destination: Destination) -> None:
    """Reads nothing more."""
    if event.data[0] == 4:  # P-DATA
        destination.closing.wait(5)


def test_a_destination_that_does_not_answer(instances: list[Instance], hasty: Settings) -> None:
    """One that took the request and says nothing."""
    with serving() as destination:
        destination.on_store = [lambda _: destination.closing.wait(5) * 0] * 50
        told = deliver(destination.node, instances, hasty, StopSignal())
    assert ends(told) == [("failed", "aborted")] * 6


def test_a_destination_that_does_not_read(datasets: list[Dataset], hasty: Settings) -> None:
    """What is sent fills the buffers and then stands."""
    dataset = dcmread(io.BytesIO(to_bytes(datasets[0])))
    dataset.Rows, dataset.PixelData = 64 * 1000, dataset.PixelData * 1000
    with serving(more=[(evt.EVT_DATA_RECV, wait)]) as destination:
        told = deliver(destination.node, [as_instance(dataset)], hasty, StopSignal())
    assert ends(told) == [("failed", "aborted")]


def test_nobody_listens(instances: list[Instance], brief: Settings) -> None:
    node = DimseNode(name="store", ae_title="STORE", host="127.0.0.1", port=unused_port())
    told = deliver(node, instances, brief, StopSignal())
    assert ends(told) == [("failed", "unreachable")] * 6
    with pytest.raises(OriginUnreachable):
        echo(node, brief, StopSignal())


def test_a_host_without_an_address(
    instances: list[Instance], brief: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    node = DimseNode(name="store", ae_title="STORE", host="no-such-host.invalid", port=104)
    told = deliver(node, instances, brief, StopSignal())
    assert ends(told) == [("failed", "unreachable")] * 6


@pytest.mark.parametrize("reason", ["stopped", "deadline"])
@pytest.mark.parametrize("where", ["connecting", "associating", "storing", "pausing"])
def test_stop(instances: list[Instance], where: str, reason: str) -> None:
    """Is the only thing that is raised, and within about a second."""
    patient = Settings(pacs_timeout_s=30, pacs_retry_s=60)
    stop = StopSignal(deadline_s=0.1 if reason == "deadline" else None)
    if reason == "stopped":
        threading.Timer(0.1, stop.stop, [Cancelled("enough")]).start()
    with serving() as destination, peer(silent) as mute, full_queue() as full:
        destination.on_store = [lambda _: destination.closing.wait(5) * 0]
        if where == "pausing":
            destination.statuses = {instances[0].sop_instance_uid: [0xA700]}
            destination.on_store = []
        node = {"associating": mute, "connecting": full}.get(where, destination.node)
        started = time.monotonic()
        with pytest.raises(Cancelled if reason == "stopped" else DeadlineExceeded):
            deliver(node, instances, patient, stop)
        assert time.monotonic() - started < 2.5


@contextmanager
def full_queue() -> Iterator[DimseNode]:
    """Connections wait there to be made."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(listening.getsockname())
        port = listening.getsockname()[1]
        try:
            yield DimseNode(name="store", ae_title="STORE", host="127.0.0.1", port=port)
        finally:
            for client in waiting:
                client.close()


def test_echo(quick: Settings) -> None:
    """A node that answers; one that fails; and one that has no such service."""
    with serving() as destination:
        echo(destination.node, quick, StopSignal())
        destination.echo_status = 0x0122
        with pytest.raises(OriginInvalid, match="0x0122"):
            echo(destination.node, quick, StopSignal())
    with (
        serving(classes=[CTImageStorage]) as destination,
        pytest.raises(OriginRefused, match="C-ECHO"),
    ):
        echo(destination.node, quick, StopSignal())


def test_answers_are_left_to_who_waits(quick: Settings) -> None:
    """The association's own thread takes none, whenever it looks."""
    contexts = [build_context(CTImageStorage)]
    with (
        serving() as destination,
        dimse._associated(destination.node, contexts, quick, StopSignal()) as conversation,
    ):
        provider = conversation.association.dimse
        provider.msg_queue.put((1, None))
        time.sleep(0.1)  # it looks every millisecond
        assert provider.msg_queue.get(timeout=2) == (1, None)


CASES = ("stored", "refused", "aborted", "stopped")


@pytest.mark.parametrize("case", CASES)
def test_log_and_receipts_hold_no_patient_data(
    instances: list[Instance], logged: io.StringIO, case: str
) -> None:
    """One line with the node, how many were stored, and how it ended."""
    stop = StopSignal()

    def stopped(_: evt.Event) -> int:
        stop.stop(Cancelled("enough"))
        return 0

    with serving() as destination:
        destination.statuses = {instances[0].sop_instance_uid: [0xC001 if case == "refused" else 0]}
        destination.on_store = {"aborted": [abort], "stopped": [stopped]}.get(case, [])
        settings = Settings(pacs_timeout_s=2, pacs_retry_s=0)
        try:
            told = str(deliver(destination.node, instances, settings, stop))
        except Cancelled:
            told = ""
    (line,) = logged.getvalue().splitlines()
    event = json.loads(line)
    assert event["node"] == "store"
    assert event.get("code") == {
        "stored": None,
        "refused": "0xC001",
        "aborted": "aborted",
        "stopped": "cancelled",
    }.get(case)
    assert event["instances"] <= 6
    assert PHANTOM_NAME not in told + line
    assert "PHANTOM-1" not in told + line
    assert all(instance.sop_instance_uid not in line for instance in instances)


def test_the_library_says_nothing(
    instances: list[Instance], caplog: pytest.LogCaptureFixture, brief: Settings
) -> None:
    """Whatever it is asked for."""
    caplog.set_level(logging.DEBUG)
    with serving() as destination:
        destination.on_store = [abort]
        deliver(destination.node, instances, brief, StopSignal())
    with peer(garbage) as node, pytest.raises(OriginError):
        echo(node, brief, StopSignal())
    assert not [record for record in caplog.records if record.name.startswith("pynetdicom")]
