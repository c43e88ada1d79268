"""What the pipeline may do with a request: answer it whole, or refuse it in words of its own."""

import os
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from fakes import FakeSegmenter, by_threshold

from reliability.case import Case
from service import pipeline
from service.encode.objects import FILES, USUAL
from service.errors import BadRequest
from service.phantom_files import PHANTOM_NAME
from service.settings import Settings

LIMITS = Settings(
    max_files=200, max_decompressed_bytes=64 * 1024**2, max_voxels=8 * 1024**2, data_dir="unused"
)
"""Small enough that what passes them is answered in moments."""

_SECRETS = tuple(word.encode() for word in (PHANTOM_NAME, "Phantom", "Petra"))
"""Text of the seeds' headers; modalities and UIDs may be named, these may not."""


@dataclass(frozen=True)
class Verdict:
    """`code` is the refusal's, or `answered`; `finding` says what was wrong, empty if nothing."""

    code: str
    finding: str = ""


def judge(case: Case) -> Verdict:
    """Run a request through the pipeline and every encoder, and look at how that ended."""
    with _output_watched() as output:
        verdict = _run(case)
    if not verdict.finding and _leaks(printed := output()):
        return Verdict(verdict.code, f"printed: {_masked(printed)}")
    return verdict


def _run(case: Case) -> Verdict:
    model = FakeSegmenter(by_threshold if case.labels == "threshold" else salt)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as the service does
            result = pipeline.run(iter(case.files), case.options, model, LIMITS)
            names = [name for name, content in every_output(result) if content]
            document = pipeline.result_document(result, with_mask=True)
    except BadRequest as refusal:
        return _judged_refusal(refusal)
    except Exception as error:  # whatever it is: it would be a 500
        return Verdict("defect", signature(error))
    scan = result.segmentation.scan
    if scan.volume.spatial_shape != result.segmentation.labels.spatial_shape:
        return Verdict("answered", "labels of another shape than the image")
    if len(names) != len(set(names)) or "result.json" not in names:
        return Verdict("answered", f"outputs: {sorted(names)[:8]}")
    told = " ".join(warning.message for warning in document.warnings)
    if _leaks(told.encode()):
        return Verdict("answered", "a warning holds text of a header")
    return Verdict("answered")


def every_output(result: pipeline.Result) -> Iterator[tuple[str, bytes]]:
    """What an archive holds, and what is made on demand."""
    yield from pipeline.outputs(result)
    if result.segmentation.scan.source.datasets:
        for name in FILES.keys() - set(USUAL):
            yield from (
                (f"rare/{file}", data) for file, data in pipeline.dicom_object(result, name)
            )


def _judged_refusal(refusal: BadRequest) -> Verdict:
    code, message = refusal.code, str(refusal)
    if _leaks(message.encode("utf-8", "replace")):
        return Verdict(code, f"{code}: the message holds text of a header")
    if not message.isprintable():
        return Verdict(code, f"{code}: the message holds control characters")
    if "xpected" not in message or len(message) > 500:
        return Verdict(code, f"{code}: the message is not in the service's form")
    return Verdict(code)


def salt(hu: np.ndarray) -> np.ndarray:
    """Labels 0 to 2 without any order, by the values alone: lesions by the hundred."""
    mixed = hu.astype(np.uint16) * np.uint16(40503) >> np.uint16(13)
    return (mixed % 3).astype(np.uint8)


def signature(error: BaseException) -> str:
    """What went wrong and where, without messages and line numbers: the same for the same bug."""
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return f"{type(error).__name__} in {' < '.join(frames[:-5:-1])}"


def _leaks(text: bytes) -> bool:
    return any(secret in text for secret in _SECRETS)


def _masked(text: bytes) -> str:
    for secret in _SECRETS:
        text = text.replace(secret, b"[name]")
    return text[:200].decode("ascii", "replace")


@contextmanager
def _output_watched() -> Iterator["_Output"]:
    """Take what libraries, native ones too, write to standard output and error meanwhile."""
    kept = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        output = _Output()
        try:
            yield output
        finally:
            for stream, before in zip((1, 2), kept, strict=True):
                os.dup2(before, stream)
                os.close(before)
            file.seek(0)
            output.content = file.read(1 << 20)


class _Output:
    """What was written, once the watch is over."""

    content = b""

    def __call__(self) -> bytes:
        return self.content
