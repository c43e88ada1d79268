"""What the service tells Prometheus, read from real processes' parts in this one."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

from prometheus_client import generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from service.device_memory import DeviceMemory
from service.listen.metrics import ListenMetrics
from service.listen.received import Received
from service.metrics import Metrics

Family = tuple[str, tuple[str, ...]]
"""Type and labels."""

DEVICE = "cuda:0"


def value(text: str, name: str, /, **labels: str) -> float:
    """The sum of the samples of this name with these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def samples_of(text: str) -> set[str]:
    """The names of all samples, and of those that a metric will have once it has labels."""
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE):
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        names |= {name + part for part in parts}
    return names


def families(*registries: object) -> dict[str, Family]:
    """Every metric of ours by its name, whether it has a sample yet or not."""
    found: dict[str, Family] = {}
    for registry in registries:
        for collector in registry._registry._collector_to_names:
            found |= _families(collector)
    return found


def _families(collector: Collector) -> dict[str, Family]:
    if isinstance(collector, MetricWrapperBase):
        name = collector._name + ("_total" if collector._type == "counter" else "")
        return {name: (collector._type, tuple(collector._labelnames))}
    if isinstance(collector, DeviceMemory):
        return {it.name: (it.type, tuple(it._labelnames)) for it in collector.describe()}
    return {}


def listen_metrics(folder: Path) -> ListenMetrics:
    return ListenMetrics(Received(folder / "received", 0))


@contextmanager
def nvidia(used: int = 3, total: int = 8, fails: bool = False) -> Iterator[list[object]]:
    """NVIDIA's library, answering for every device that it is asked for; gives those."""
    asked: list[object] = []

    def handle(name: object) -> object:
        asked.append(name)
        return name

    def memory(_: object) -> SimpleNamespace:
        if fails:
            raise OSError("GPU is lost")
        return SimpleNamespace(used=used, total=total)

    library = ModuleType("pynvml")
    library.nvmlInit = lambda: None
    library.nvmlDeviceGetHandleByIndex = library.nvmlDeviceGetHandleByUUID = handle
    library.nvmlDeviceGetMemoryInfo = memory
    with patch.dict(sys.modules, pynvml=library):
        yield asked


def text_of(metrics: Metrics | ListenMetrics) -> str:
    return generate_latest(metrics._registry).decode()
