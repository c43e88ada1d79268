"""Delivering objects to a node, whichever protocol it speaks, with a receipt for each."""

import time
from collections.abc import Iterator, Sequence

import structlog

from service.errors import InternalError, OriginError, OriginUnreachable, ServiceError
from service.pacs import dimse, stow
from service.pacs.nodes import DicomwebNode, DimseNode
from service.pacs.receipts import Instance, NotTaken, Receipt, Status
from service.pacs.retry import Tried, TryAgain, retrying
from service.settings import Settings
from service.stopping import StopSignal

__all__ = ["Instance", "Receipt", "deliver"]

_log = structlog.get_logger(__name__)


def deliver(
    node: DicomwebNode | DimseNode,
    instances: Sequence[Instance],
    settings: Settings,
    stop: StopSignal,
    tried: Tried = lambda _: None,
) -> tuple[Receipt, ...]:
    """Send all instances; a receipt for each, in their order.

    What was neither stored nor refused is sent again, for `pacs_retry_s`. A destination that
    fails is told by receipts and never raised. To deliver the same again does no harm: it has the
    same UIDs, and a destination that has it already keeps it. Raises the reason to stop, and what
    an instance's `data` raises.
    """
    started = time.monotonic()
    delivery = _Delivery(node, instances, settings, stop)
    code: str | None = InternalError.code
    try:
        delivery.run(tried)
        code = next((r.code for r in delivery.receipts() if not r.is_stored), None)
    except ServiceError as error:
        code = error.code
        raise
    finally:
        _log.info(
            "delivered" if code is None else "not all delivered",
            node=node.name,
            code=code,
            instances=sum(receipt.is_stored for receipt in delivery.receipts()),
            seconds=round(time.monotonic() - started, 3),
        )
    return delivery.receipts()


class _Delivery:
    """Instances on their way, over several attempts."""

    def __init__(
        self,
        node: DicomwebNode | DimseNode,
        instances: Sequence[Instance],
        settings: Settings,
        stop: StopSignal,
    ) -> None:
        self._node, self._settings, self._stop = node, settings, stop
        self._instances = {instance.sop_instance_uid: instance for instance in instances}
        self._order = [instance.sop_instance_uid for instance in instances]
        self._receipts: dict[str, Receipt] = {}

    def receipts(self) -> tuple[Receipt, ...]:
        """Of all that were sent so far."""
        return tuple(self._receipts[uid] for uid in self._order if uid in self._receipts)

    def run(self, tried: Tried) -> None:
        try:
            retrying(self._attempt, self._stop, self._settings, tried)
        except OriginError:
            return  # the receipts say it

    def _attempt(self) -> None:
        pending = [
            instance
            for uid, instance in self._instances.items()
            if uid not in self._receipts or self._receipts[uid].status == "failed"
        ]
        for instance in pending:
            self._receipts.pop(instance.sop_instance_uid, None)
        try:
            for receipt in self._send(pending):
                self._receipts[receipt.sop_instance_uid] = receipt
        except TryAgain as failure:
            self._note(pending, "failed", failure.code, str(failure.error))
            raise
        except NotTaken as refusal:
            self._note(pending, "refused", refusal.code, refusal.detail)
        failed = sum(receipt.status == "failed" for receipt in self._receipts.values())
        if failed:
            raise TryAgain(OriginUnreachable(f"Expected all to be stored, found {failed} failed."))

    def _send(self, pending: Sequence[Instance]) -> Iterator[Receipt]:
        if isinstance(self._node, DicomwebNode):
            return stow.send(self._node, pending, self._settings, self._stop)
        return dimse.send(self._node, pending, self._settings, self._stop)

    def _note(self, pending: Sequence[Instance], status: Status, code: str, detail: str) -> None:
        """The same for all of which nothing is known yet."""
        for instance in pending:
            receipt = Receipt.of(instance, status, code, detail)
            self._receipts.setdefault(instance.sop_instance_uid, receipt)
