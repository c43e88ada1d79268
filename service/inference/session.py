"""One ONNX Runtime session: opened for a device, checked against its contract, run in batches."""

import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import ValidationError

from service.errors import DeviceUnavailable, InvalidModel
from service.inference import checksum
from service.inference.contract import INPUT_NAME, METADATA_KEY, OUTPUT_NAMES, ModelContract
from service.inference.work import Labelled
from service.phantom import abdomen_hu
from service.settings import DevicePolicy, Settings
from service.volume import LIVER_LABEL, TUMOR_LABEL

CUDA_PROVIDER = "CUDAExecutionProvider"
CPU_PROVIDER = "CPUExecutionProvider"

GPU_SUFFIX = ".gpu.onnx"
"""A float16 graph beside the model (`python -m export gpu`), taken where CUDA runs."""


_FOLDER_OF_OTHER_FILES = "session.model_external_initializers_file_folder_path"
"""Where weights beside the model would be read from: nowhere, its SHA-256 does not hold them."""

MAX_LANES = 2
"""Batches at once on a CPU; more were not measured."""


@dataclass(frozen=True)
class Threads:
    """How a session uses the cores: batches at once, and the threads that ONNX Runtime is given.

    Each run keeps the thread that calls it busy, and all share the `pool`'s others. Two batches,
    a core each, label a fifth more slices than one on both, whose halves of an operator wait for
    each other.
    """

    lanes: int
    pool: int

    @classmethod
    def on(cls, provider: str, threads: int) -> "Threads":
        """`threads` in all on a CPU, where 0 is one for each core; a GPU runs one batch."""
        if provider != CPU_PROVIDER:
            return cls(lanes=1, pool=threads)
        threads = threads or _cores()
        lanes = min(threads, MAX_LANES)
        return cls(lanes, pool=threads - lanes + 1)


@dataclass(frozen=True)
class Description:
    """A model that runs elsewhere: the provider and the device are those of other processes."""

    contract: ModelContract
    sha256: str
    provider: str = "none"
    device: str = "none"


class ModelSession:
    """A loaded model on one device; at most `lanes` runs at once, which use all of it."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        contract: ModelContract,
        sha256: str,
        lanes: int = 1,
        filled_to: int | None = None,
    ) -> None:
        """`filled_to`: run every batch as one of so many slices."""
        self.contract = contract
        self.sha256 = sha256
        self.lanes = lanes
        self._filled_to = filled_to
        self._session = session
        self._free = threading.BoundedSemaphore(lanes)

    @classmethod
    def open(
        cls, path: Path, policy: DevicePolicy, threads: int = 0, batch_slices: int | None = None
    ) -> "ModelSession":
        """Load a model and make it ready: contract read, warmed up, self-test passed.

        Where CUDA runs, batches are filled up to `batch_slices`: for each change of their size
        cuDNN plans all convolutions anew, which takes as long as hundreds of slices.

        Raises `DeviceUnavailable` where the policy is `cuda` and CUDA did not load, and
        `InvalidModel` for a file that is missing, damaged, without a valid contract, of another
        signature or checksum, or that labels the self-test's phantom otherwise than its contract
        says.
        """
        providers = _providers(policy)
        data, providers = _read(path, providers)
        shared = Threads.on(providers[0], threads)
        session = _create(data, providers, shared.pool)
        if policy == "cuda" and session.get_providers()[0] != CUDA_PROVIDER:
            raise DeviceUnavailable(_why_no_cuda())
        on_cuda = session.get_providers()[0] == CUDA_PROVIDER
        opened = cls(
            session,
            _contract(session),
            hashlib.sha256(data).hexdigest(),
            shared.lanes,
            filled_to=batch_slices if on_cuda else None,
        )
        _check_signature(session, opened.contract)
        opened._self_test()
        return opened

    @classmethod
    def of(cls, settings: Settings) -> "ModelSession":
        """The model of the settings, on their device. Raises what `open` raises."""
        return cls.open(settings.model, settings.device, settings.threads, settings.batch_slices)

    @staticmethod
    def describe(path: Path) -> "Description":
        """What the model says of itself, for a process that does not run it.

        Raises `InvalidModel` for a file that is missing, damaged, or without a valid contract.
        """
        data, providers = _read(path, [CPU_PROVIDER])
        contract = _contract(_create(data, providers, threads=1))
        return Description(contract, hashlib.sha256(data).hexdigest())

    @property
    def provider(self) -> str:
        """The execution provider that the live session really has, e.g. CPUExecutionProvider."""
        return str(self._session.get_providers()[0])

    @property
    def device(self) -> str:
        """`cuda:0` or `cpu`, as the live session has it."""
        if self.provider != CUDA_PROVIDER:
            return "cpu"
        options = self._session.get_provider_options()[CUDA_PROVIDER]
        return f"cuda:{options.get('device_id', '0')}"

    def run(self, hu: NDArray[np.int16]) -> Labelled:
        """Label int16 Hounsfield units [slices, rows, columns, context]."""
        size = self._filled_to or max(1, len(hu))
        parts = [self._run(hu[start : start + size]) for start in range(0, len(hu), size)]
        if len(parts) == 1:
            return parts[0]
        return Labelled(
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.tumor_probability for part in parts]),
        )

    @property
    def fills_batches(self) -> bool:
        return self._filled_to is not None

    def _run(self, hu: NDArray[np.int16]) -> Labelled:
        slices = len(hu)
        if self._filled_to is not None and slices < self._filled_to:
            hu = np.concatenate([hu, np.repeat(hu[-1:], self._filled_to - slices, axis=0)])
        with self._free:
            try:
                labels, probability = self._session.run(OUTPUT_NAMES, {INPUT_NAME: hu})
            except Exception as error:  # ONNX Runtime raises classes of its own, all plain
                if "bad_alloc" in str(error) or "Failed to allocate" in str(error):
                    raise MemoryError from error
                raise
        return Labelled(labels[:slices], probability[:slices])

    def _self_test(self) -> None:
        """Label the contract's phantom, which also warms the session up."""
        test = self.contract.self_test
        context = self.contract.context.slices
        hu = abdomen_hu(test.seed, test.slices, test.size)
        try:
            labels = self.run(np.repeat(hu[..., None], context, axis=-1)).labels
        except Exception as error:  # ONNX Runtime raises classes of its own, all plain Exceptions
            raise InvalidModel("Expected the self-test to run, found that it fails.") from error
        liver, tumor = int((labels >= LIVER_LABEL).sum()), int((labels == TUMOR_LABEL).sum())
        if labels.shape != hu.shape or not test.accepts(liver, tumor):
            raise InvalidModel(
                f"Expected the self-test to give {test.liver_voxels} voxels of liver and "
                f"{test.tumor_voxels} of tumour, found {liver} and {tumor}."
            )


def _cores() -> int:
    """Those that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _providers(policy: DevicePolicy) -> list[str]:
    available = onnxruntime.get_available_providers()
    if policy == "cpu":
        return [CPU_PROVIDER]
    if CUDA_PROVIDER not in available:
        if policy == "cuda":
            raise DeviceUnavailable(_why_no_cuda())
        return [CPU_PROVIDER]
    onnxruntime.preload_dlls()  # CUDA and cuDNN from the `gpu` set's own packages
    return [CUDA_PROVIDER, CPU_PROVIDER]


def _why_no_cuda() -> str:
    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        return (
            "Expected CUDA, found an ONNX Runtime without it: install the set `gpu` "
            "(onnxruntime-gpu[cuda,cudnn]) instead of `cpu`, or set LTS_DEVICE to auto or cpu."
        )
    return (
        "Expected CUDA, found that its provider did not load: ONNX Runtime needs an NVIDIA driver "
        "with a visible GPU, CUDA 13 and cuDNN 9 (the set `gpu` brings the last two)."
    )


def _read(path: Path, providers: list[str]) -> tuple[bytes, list[str]]:
    """The model's bytes: on CUDA those of the float16 graph beside it, where there is one."""
    gpu_path = path.with_name(path.stem + GPU_SUFFIX)
    if providers[0] == CUDA_PROVIDER and gpu_path.exists():
        path = gpu_path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidModel("Expected a model file at LTS_MODEL, found none to read.") from error
    checksum.check(path, data)
    return data, providers


def _create(data: bytes, providers: list[str], threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry(_FOLDER_OF_OTHER_FILES, os.devnull)
    if not _sums_int8_exactly():
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # ONNX Runtime raises classes of its own, all plain Exceptions
        raise InvalidModel("Expected an ONNX model, found a file that cannot be loaded.") from error


def _sums_int8_exactly() -> bool:
    """Whether this CPU's sums of int8 products cannot saturate.

    On x86 without VNNI they can, and exact sums, as slow as float32, are the right choice. On other
    machines exact sums are what they have (with VNNI the exact option measured 5 slices/s, not 26).
    """
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return True  # not Linux: ONNX Runtime's default
    return "avx2" not in flags or not flags.isdisjoint({"avx_vnni", "avx512_vnni"})


def _contract(session: onnxruntime.InferenceSession) -> ModelContract:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise InvalidModel(f"Expected a contract in the metadata {METADATA_KEY}, found none.")
    try:
        return ModelContract.model_validate_json(text)
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
        raise InvalidModel(f"Expected a valid contract, found it wrong in: {wrong}.") from error


def _check_signature(session: onnxruntime.InferenceSession, contract: ModelContract) -> None:
    inputs = [(node.name, node.type, len(node.shape)) for node in session.get_inputs()]
    outputs = [(node.name, node.type, len(node.shape)) for node in session.get_outputs()]
    expected_inputs = [(INPUT_NAME, "tensor(int16)", 4)]
    expected_outputs = [(name, "tensor(uint8)", 3) for name in OUTPUT_NAMES]
    if inputs != expected_inputs or outputs != expected_outputs:
        raise InvalidModel(
            f"Expected {expected_inputs} to {expected_outputs}, found {inputs} to {outputs}."
        )
    context = session.get_inputs()[0].shape[3]
    if context != contract.context.slices:
        raise InvalidModel(
            f"Expected {contract.context.slices} context slices as the contract says, found "
            f"{context} in the graph."
        )
