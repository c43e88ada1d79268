"""C-ECHO and C-STORE for those who may: the DIMSE side of `listen`.

Success is answered once an object is on the disk. One that repeats, byte for byte, what is there is
a success as well. One of the same SOP Instance UID that differs is not kept, and gets the warning
that elements are other than those sent, 0xB000: a failure would make its sender try for ever. An
object's modality does not matter: what is no CT slice is kept, and the service names it in a
warning of the result.
"""

import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from socket import socket
from socketserver import BaseServer
from typing import Any, cast

import pynetdicom._config
import structlog
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AssociationServer, AssociationSocket

from service.errors import InternalError, StorageFull
from service.listen.connection import PDU_BYTES, BoundedReader
from service.listen.contexts import SOP_CLASSES, TRANSFER_SYNTAXES, VERIFICATION
from service.listen.instance import OUT_OF_RESOURCES, NotTaken, read_instance
from service.listen.metrics import ListenMetrics
from service.listen.received import Kept, Received
from service.logs import place_of
from service.pacs.nodes import Caller
from service.settings import Settings

# pynetdicom would describe every PDU and message to its log, which nobody hears.
pynetdicom._config.LOG_HANDLER_LEVEL = "none"

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
ELEMENTS_DIFFER = 0xB000

_CALLING_TITLE_NOT_RECOGNISED, _CALLED_TITLE_NOT_RECOGNISED = (1, 1, 3), (1, 1, 7)
_LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
"""Result, source and reason of a rejection (PS3.8 table 9-21); the last is for now only."""

_CLASS_NOT_SUPPORTED = 3
"""Result of a presentation context (PS3.8 table 9-18); otherwise it is the transfer syntax."""

_REQUEST_S = 30
"""From a connection to its request for an association."""

_SILENCE_S = 60
"""Between the PDUs of an association; a sender may open another one."""

_SPARE_CONNECTIONS = 16
"""Beyond the associations allowed, for those who are told so, and who say nothing at all."""

_POLL_S = 0.2
"""How soon it is noticed that nobody is to be listened to any more."""

_STOP_S, _ABORT_S = 3.0, 1.0
"""For objects that are being stored when the process is to end, and then for associations."""

_log = structlog.get_logger(__name__)


class Receiver:
    """Takes objects from the callers of the settings, in threads of its own."""

    def __init__(
        self,
        settings: Settings,
        callers: Mapping[str, Caller],
        received: Received,
        metrics: ListenMetrics,
    ) -> None:
        """Bind the port. Raises `OSError`."""
        self._callers = callers
        self._received, self._metrics = received, metrics
        self._max_bytes = settings.max_request_bytes
        self._max_associations = settings.listen_associations
        self._title = settings.listen_ae_title.strip()
        self._admitted: set[Association] = set()
        self._named: dict[tuple[str, str], str] = {}
        self._storing = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._has_room = True
        self._server = self._serving(settings)

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), daemon=True).start()

    def stop(self) -> None:
        """Take no more; what is being stored is, within seconds."""
        self._stopping.set()
        self._server.shutdown()
        deadline = time.monotonic() + _STOP_S
        while self._storing and time.monotonic() < deadline:
            time.sleep(0.01)
        # Each waits for its peer, so that they do so at the same time.
        aborting = [
            threading.Thread(target=association.abort, daemon=True)
            for association in self._server.active_associations
        ]
        for thread in aborting:
            thread.start()
        deadline = time.monotonic() + _ABORT_S
        for thread in aborting:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _serving(self, settings: Settings) -> "_Server":
        entity = AE(self._title)
        entity.maximum_associations = self._max_associations + _SPARE_CONNECTIONS
        entity.maximum_pdu_size = PDU_BYTES
        entity.acse_timeout = _REQUEST_S
        entity.dimse_timeout = entity.network_timeout = _SILENCE_S
        entity.add_supported_context(VERIFICATION)
        for sop_class in SOP_CLASSES:
            entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        return _Server(
            entity,
            (settings.listen_host, settings.listen_port),
            self._title,
            entity.supported_contexts,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, self._bound),
                (evt.EVT_REQUESTED, self._admit),
                (evt.EVT_ACCEPTED, self._note_contexts),
                (evt.EVT_C_STORE, self._store),
            ],
        )

    def _bound(self, event: Event) -> None:
        """Read by our own bounds from now on."""
        dul = event.assoc.dul
        dul.daemon = True  # else a peer that says nothing would hold up the end of the process
        transport = cast(AssociationSocket, dul.socket)
        reader = BoundedReader(cast(socket, transport.socket), self._max_bytes)
        transport.recv = reader.read  # type: ignore[method-assign]  # there is no other way to it
        event.assoc.bind(evt.EVT_DIMSE_SENT, lambda _: reader.answered())
        event.assoc.bind(evt.EVT_CONN_CLOSE, self._closed, [reader])

    def _closed(self, event: Event, reader: BoundedReader) -> None:
        """Let go of what the library keeps of a connection that is no more."""
        reader.close()
        if event.assoc.requestor.primitive is None:
            # Its thread waits for a request, and would do so for as long as one may take: each
            # check of the port by a monitor would hold one of the connections.
            event.assoc.dul.to_user_queue.put(None)

    def _admit(self, event: Event) -> None:
        """Reject an association that is not allowed."""
        request = cast(A_ASSOCIATE, event.assoc.requestor.primitive)
        title, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        address = event.assoc.requestor.address
        with self._lock:
            self._admitted = {admitted for admitted in self._admitted if admitted.is_alive()}
            objection = self._objection(title, called, address)
            if objection is None:
                self._admitted.add(event.assoc)
        self._metrics.associations.labels(objection[0] if objection else "accepted").inc()
        if objection is not None:
            code, reason = objection
            _log.warning("association rejected", code=code, caller=_plain(title))
            event.assoc.acse.send_reject(*reason)
            event.assoc.kill()

    def _objection(
        self, title: str, called: str, address: str
    ) -> tuple[str, tuple[int, int, int]] | None:
        """The code and the standard's reason why this caller may not send, if there is one."""
        caller = self._callers.get(title)
        if caller is None:
            return "unknown_caller", _CALLING_TITLE_NOT_RECOGNISED
        if caller.hosts and _unmapped(address) not in caller.hosts:
            return "unknown_address", _CALLING_TITLE_NOT_RECOGNISED
        if called != self._title:
            return "wrong_called_title", _CALLED_TITLE_NOT_RECOGNISED
        if len(self._admitted) >= self._max_associations:
            return "too_many_associations", _LOCAL_LIMIT_EXCEEDED
        return None

    def _note_contexts(self, event: Event) -> None:
        """Name the kinds of objects that a caller cannot bring; once, until it offers others."""
        accepted = {context.abstract_syntax for context in event.assoc.accepted_contexts}
        refused: dict[str, set[str]] = {}
        for context in event.assoc.rejected_contexts:
            if context.abstract_syntax not in accepted:
                unknown = context.result == _CLASS_NOT_SUPPORTED
                code = "sop_class_not_taken" if unknown else "transfer_syntax_not_taken"
                refused.setdefault(code, set()).add(_class_name(context.abstract_syntax))
        caller = event.assoc.requestor.ae_title.strip()
        for code, names in refused.items():
            listed = ", ".join(sorted(names))
            if self._named.get((caller, code)) != listed:
                self._named[caller, code] = listed
                _log.warning("sop class not taken", code=code, sop_class=listed, caller=caller)

    def _store(self, event: Event) -> int:
        """Answer one C-STORE with its status."""
        if self._stopping.is_set() or event.assoc not in self._admitted:
            # In the end: an abort leaves its sender no doubt that this one is not kept. And the
            # library lets an association in whose check has failed by a defect.
            event.assoc.abort()
            return OUT_OF_RESOURCES
        caller = event.assoc.requestor.ae_title.strip()
        with self._counted():
            try:
                kept = self._received.add(read_instance(event, caller))
            except NotTaken as error:
                self._count(error.code)
                _log.warning("instance not taken", code=error.code, caller=caller)
                return error.status
            except StorageFull as error:
                self._count(error.code)
                self._note_room(False, error.code)
                return OUT_OF_RESOURCES
            except Exception as error:
                self._count(InternalError.code)
                _log.error("instance not kept", caller=caller, place=place_of(error))
                return PROCESSING_FAILURE
        self._count(kept.value)
        self._note_room(True, None)
        if kept is Kept.DIFFERS:
            _log.warning("instance not kept", code=kept.value, caller=caller)
            return ELEMENTS_DIFFER
        return SUCCESS

    def _count(self, outcome: str) -> None:
        self._metrics.instances.labels(outcome).inc()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._storing += 1
        try:
            yield
        finally:
            with self._lock:
                self._storing -= 1

    def _note_room(self, has_room: bool, code: str | None) -> None:
        """Say so once when there is no room left, and once when there is again."""
        if has_room != self._has_room:
            self._has_room = has_room
            event = "room again" if has_room else "out of room"
            _log.warning(event, code=code, free_bytes=self._received.free_bytes())


class _Server(AssociationServer):
    """Listens; the associations have threads of their own."""

    request_queue_size = 64

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ANN401, ARG002  # as it is declared
        """Whether there is a thread left for one more connection, who ever calls."""
        return len(self.active_associations) < self.ae.maximum_associations

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002
        """Say where it was; the library would print the error itself."""
        error = sys.exc_info()[1]
        _log.error("connection failed", place=error and place_of(error))

    def shutdown(self) -> None:
        """Without the library's list of servers, on which only those are that it started."""
        BaseServer.shutdown(self)
        self.server_close()


def _unmapped(address: str) -> str:
    """An address as the settings have it: that of IPv4 where it came over a socket of IPv6."""
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)


def _plain(title: str) -> str:
    """A title of whoever calls, as a log may hold it."""
    return re.sub(r"[^A-Za-z0-9_.-]", "?", title)


def _class_name(uid: UID | None) -> str:
    """A class by its name in the standard; what has none there may be anything."""
    return str(uid.name) if uid is not None and uid.name != uid else "one of no standard"
