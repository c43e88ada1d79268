"""The parts of `listen` at work together, until the process is to end."""

import threading
from collections.abc import Mapping

import structlog

from service.listen.forward import Forwarder
from service.listen.metrics import ListenMetrics
from service.listen.received import Received
from service.listen.receiver import Receiver
from service.logs import place_of
from service.pacs.nodes import Caller
from service.settings import Settings

_TICK_S = 0.5

_log = structlog.get_logger(__name__)


def listen(settings: Settings, callers: Mapping[str, Caller], stop: threading.Event) -> None:
    """Receive series, and send on what is whole, until `stop`. Raises `OSError` for a port.

    It may listen beyond loopback: nobody is served who is not on the list of callers.
    """
    received = Received(settings.received_folder, settings.listen_min_free_bytes)
    metrics = ListenMetrics(received)
    receiver = Receiver(settings, callers, received, metrics)
    forwarder = Forwarder(received, settings, callers, lambda it: metrics.posts.labels(it).inc())
    with metrics.served(settings.listen_host, settings.listen_metrics_port):
        forwarder.start()
        receiver.start()
        _log.info("listening")
        while not stop.wait(min(_TICK_S, settings.listen_quiet_s / 4)):
            try:
                _tidy(received, settings)
            except Exception as error:  # a disk that fails: the next time may do
                _log.error("received series not tidied", place=place_of(error))
        receiver.stop()
        forwarder.stop()


def _tidy(received: Received, settings: Settings) -> None:
    for series in received.close_quiet(settings.listen_quiet_s):
        _log.info("series whole", caller=series.origin.caller, instances=series.instances)
    received.forget_refused(settings.listen_keep_refused_h * 3600)
