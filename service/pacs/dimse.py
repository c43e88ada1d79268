"""Delivering by DIMSE: C-STORE (PS3.4 annex B), and C-ECHO to see whether a node answers."""

import io
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pynetdicom._config
from pydicom import Dataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AE, VerificationPresentationContexts, build_context, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import MaximumLengthNotification
from pynetdicom.presentation import PresentationContext

from service.errors import OriginInvalid, OriginRefused, OriginUnreachable
from service.pacs.nodes import DimseNode
from service.pacs.receipts import Instance, NotTaken, Receipt, batches, receipt_of
from service.pacs.retry import TryAgain
from service.pacs.watch import Watch
from service.settings import Settings
from service.stopping import StopSignal

# It would describe addresses, requests and data sets, and take its time for that.
pynetdicom._config.LOG_HANDLER_LEVEL = "none"
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)

_CONVERTIBLE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
"""Transfer syntaxes that pydicom writes one as the other."""

_MAX_CONTEXTS = 128
"""Of one association (PS3.8 section 9.3.2.2): their identifiers are odd numbers up to 255."""

_PDU_BYTES = 1024**2
"""At most, for a peer that sets no limit: what has gone is counted PDU by PDU."""

_PERMANENT = 1
"""Result of a rejected association (PS3.8 table 9-21)."""


@dataclass(frozen=True)
class _Conversation:
    """An association and what watches over it."""

    association: Association
    watch: Watch
    stop: StopSignal


def send(
    node: DimseNode, instances: Sequence[Instance], settings: Settings, stop: StopSignal
) -> Iterator[Receipt]:
    """A receipt for each instance, as soon as it is known.

    Raises `TryAgain` where the rest may go well later, `NotTaken` where it will not, or the reason
    to stop.
    """
    for batch in batches(instances):
        objects = [(loaded.instance, dcmread(io.BytesIO(loaded.data))) for loaded in batch]
        contexts = _contexts(objects)
        with _associated(node, contexts, settings, stop) as conversation:
            for instance, dataset in objects:
                yield _store(conversation, instance, dataset)


def echo(node: DimseNode, settings: Settings, stop: StopSignal) -> None:
    """Return if the node answers a C-ECHO. Raises `OriginError`, or the reason to stop."""
    try:
        with _associated(node, VerificationPresentationContexts, settings, stop) as conversation:
            association = conversation.association
            if not association.is_established:
                raise OriginRefused("Expected a node that takes C-ECHO, found one that does not.")
            status = association.send_c_echo()
    except TryAgain as failure:
        raise failure.error from None
    except NotTaken as failure:
        raise OriginRefused(failure.detail) from None
    stop.check()
    if "Status" not in status:
        raise OriginUnreachable("Expected an answer to C-ECHO, found none.")
    if status.Status != 0:
        raise OriginInvalid(f"Expected success of C-ECHO, found 0x{status.Status:04X}.")


def _store(conversation: _Conversation, instance: Instance, dataset: Dataset) -> Receipt:
    conversation.stop.check()
    conversation.watch.begin()
    try:
        if not conversation.association.accepted_contexts:
            raise ValueError("no context")
        status = conversation.association.send_c_store(dataset)
    except ValueError:  # no accepted context, or none that it can be written for
        detail = "The destination does not take this kind of object."
        return Receipt.of(instance, "refused", "no_context", detail)
    except RuntimeError:  # the association is gone
        status = Dataset()
    if "Status" not in status:
        conversation.stop.check()
        failure = OriginUnreachable("Expected the destination's answer, found none.")
        raise TryAgain(failure, "aborted")
    return receipt_of(instance, int(status.Status))


def _contexts(objects: Sequence[tuple[Instance, Dataset]]) -> list[PresentationContext]:
    """One for each class and transfer syntax, so that the peer says which ones it takes."""
    wanted: dict[tuple[str, str], None] = {}
    for instance, dataset in objects:
        own = dataset.file_meta.TransferSyntaxUID
        others = _CONVERTIBLE[:2] if own in _CONVERTIBLE else ()
        wanted |= dict.fromkeys((instance.sop_class_uid, syntax) for syntax in (own, *others))
    return [build_context(*pair) for pair in list(wanted)[:_MAX_CONTEXTS]]


@contextmanager
def _associated(
    node: DimseNode, contexts: list[PresentationContext], settings: Settings, stop: StopSignal
) -> Iterator[_Conversation]:
    """An association; it is not established where the peer takes none of the contexts.

    Raises `TryAgain`, `NotTaken`, or the reason to stop.
    """
    stop.check()
    entity = AE(node.calling_ae_title or settings.listen_ae_title)
    entity.connection_timeout = entity.acse_timeout = settings.pacs_timeout_s
    entity.dimse_timeout = entity.network_timeout = None  # they count from the start: the watch
    opened: list[socket.socket] = []
    with Watch(stop, settings) as watch:
        watch.begin()
        try:
            association = entity.associate(
                node.host,
                node.port,
                contexts=contexts,
                ae_title=node.ae_title,
                evt_handlers=[
                    (evt.EVT_REQUESTED, _hold, [watch, opened]),
                    (evt.EVT_DATA_SENT, _count, [watch]),
                ],
            )
        except OSError:  # the host's name
            raise _unreachable() from None
        try:
            stop.check()
            _check(association)
            yield _Conversation(association, watch, stop)
        finally:
            watch.begin()
            association.release()
            association.dul.kill_dul()
            for connection in opened:
                connection.close()  # the library leaves one open that cannot be shut down


def _check(association: Association) -> None:
    if association.is_rejected:
        answer = association.acceptor.primitive
        if answer is not None and answer.result == _PERMANENT:
            raise NotTaken("rejected", "The destination rejects the service's association.")
        failure = OriginUnreachable("Expected an association, found it rejected for now.")
        raise TryAgain(failure, "rejected")
    if association.is_established:
        _limit_pdus(association)
        _keep_answers(association)
    elif not association.rejected_contexts:
        raise _unreachable()


def _limit_pdus(association: Association) -> None:
    for item in association.acceptor.user_information:
        if isinstance(item, MaximumLengthNotification):
            most = item.maximum_length_received or _PDU_BYTES
            item.maximum_length_received = min(most, _PDU_BYTES)


def _keep_answers(association: Association) -> None:
    """Leave every message to the thread that waits for it.

    The association's own thread looks for requests, which nobody sends here. pynetdicom 3.0 means
    to pause it while an answer is waited for; on a busy machine it takes one in a thousand.
    """
    take = association.dimse.get_msg
    none = (None, None)
    association.dimse.get_msg = lambda block=False: take(block) if block else none  # type: ignore[method-assign]


def _hold(event: evt.Event, watch: Watch, opened: list[socket.socket]) -> None:
    """The connection is being made, by another thread."""
    transport = event.assoc.dul.socket
    connection = None if transport is None else transport.socket
    if connection is not None:
        # A request's head goes alone, and would wait 40 ms to be acknowledged before its data go.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        watch.hold(connection)
        opened.append(connection)


def _count(event: evt.Event, watch: Watch) -> None:
    watch.moved(len(event.data))


def _unreachable() -> TryAgain:
    return TryAgain(OriginUnreachable("Expected an association, found no answer."))
