"""The SHA-256 of a model file, written beside it as `sha256sum` writes it, and checked at start.

`sha256sum --check liver-tumor.onnx.sha256` says the same.
"""

import hashlib
import hmac
from pathlib import Path

import structlog

from service.errors import InvalidModel

_log = structlog.get_logger(__name__)

SUFFIX = ".sha256"


def checksum_file(model: Path) -> Path:
    """Where a model's checksum is."""
    return model.with_name(model.name + SUFFIX)


def checksum_line(model: Path, data: bytes) -> str:
    """The line of a model that holds these bytes."""
    return f"{hashlib.sha256(data).hexdigest()}  {model.name}\n"


def check(model: Path, data: bytes) -> None:
    """Raise `InvalidModel` where the file beside the model names another checksum.

    A model without such a file is taken as it is.
    """
    try:
        expected = checksum_file(model).read_text(encoding="ascii", errors="replace")[:64].lower()
    except FileNotFoundError:
        _log.warning("the model has no checksum beside it")
        return
    except OSError as error:
        raise InvalidModel("Expected a checksum beside the model that can be read.") from error
    found = hashlib.sha256(data).hexdigest()
    if not hmac.compare_digest(found.encode(), expected.encode()):
        raise InvalidModel(
            f"Expected the SHA-256 that the {SUFFIX} file beside the model names, found {found}."
        )
