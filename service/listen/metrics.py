"""What `listen` counts, and the small server that tells it to Prometheus."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

from service import __version__
from service.listen.received import Received


class ListenMetrics:
    """The metrics of one listener, in a registry of its own; labels hold codes of ours."""

    def __init__(self, received: Received) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # nobody asks when they began
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.associations = Counter(
            "lts_listen_associations_total", "Associations asked for", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self.instances = Counter(
            "lts_listen_instances_total", "Objects that came by C-STORE", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self.posts = Counter(
            "lts_listen_posts_total", "Tries to hand a series on to the service", ["outcome"],
            registry=registry,
        )  # fmt: skip
        kept = Gauge("lts_listen_series", "Series on the disk", ["place"], registry=registry)
        for place in received.PLACES:
            kept.labels(place).set_function(partial(received.count, place))
        free = Gauge("lts_listen_free_bytes", "Free bytes of their disk", registry=registry)
        free.set_function(received.free_bytes)
        build = Gauge("lts_build_info", "The version of the service", ["version"],
                      registry=registry)  # fmt: skip
        build.labels(__version__).set(1)

    @contextmanager
    def served(self, host: str, port: int) -> Iterator[None]:
        """Answer HTTP while the block runs; port 0 answers nothing. Raises `OSError`."""
        if not port:
            yield
            return
        server, thread = start_http_server(port, host, self._registry)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
