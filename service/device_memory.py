"""Memory of the CUDA device as its driver has it: for all processes, and for no CPU."""

import os
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class DeviceMemory(Collector):
    """Tells used and total bytes of one device; nothing where NVIDIA's library does not answer."""

    def __init__(self, device: str) -> None:
        """`device` as ONNX Runtime has it, e.g. `cuda:0`; any other kind has no series."""
        self._device = device
        self._handle: tuple[Any, Any] | None = None

    def describe(self) -> list[GaugeMetricFamily]:
        """The names alone, which registration asks for: no driver is loaded for that."""
        return [self._family("used"), self._family("total")]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if not self._device.startswith("cuda:"):
            return
        try:
            library, handle = self._handle = self._handle or _open(self._device)
            memory = library.nvmlDeviceGetMemoryInfo(handle)
        except Exception:  # no library, no driver, or a device that is lost: each says it its way
            self._handle = None
            return
        for what in ("used", "total"):
            family = self._family(what)
            family.add_metric([self._device], getattr(memory, what))
            yield family

    @staticmethod
    def _family(what: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            f"lts_device_memory_{what}_bytes",
            f"Memory of the CUDA device, {what}",
            labels=["device"],
        )


def _open(device: str) -> tuple[Any, Any]:
    """The library, and its handle of the device."""
    import pynvml

    pynvml.nvmlInit()
    number = int(device.removeprefix("cuda:"))
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    name = visible[number] if any(visible) else str(number)
    if name.isdigit():
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(int(name))
    return pynvml, pynvml.nvmlDeviceGetHandleByUUID(name)
