"""One request to try on the pipeline, and how it is written down when it finds something."""

import base64
import json
import zlib
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from service.pipeline import Options

Labels = Literal["threshold", "salt"]
"""Which fake model answers: the phantom's true labels, or noise that makes many lesions."""

_OPTIONS = TypeAdapter(Options)


@dataclass(frozen=True)
class Case:
    """The files of one request, its options, and the fake model; `name` says how it was made."""

    name: str
    files: tuple[bytes, ...]
    options: Options
    labels: Labels

    def to_json(self, finding: str) -> str:
        """As the corpus holds it, with what was found."""
        document: dict[str, Any] = {
            "name": self.name,
            "finding": finding,
            "labels": self.labels,
            "options": _OPTIONS.dump_python(self.options, mode="json"),
            "files": [base64.b64encode(zlib.compress(data, 9)).decode() for data in self.files],
        }
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Case":
        """The case of a file of the corpus."""
        document = json.loads(text)
        return cls(
            name=document["name"],
            files=tuple(zlib.decompress(base64.b64decode(data)) for data in document["files"]),
            options=_OPTIONS.validate_python(document["options"]),
            labels=document["labels"],
        )
