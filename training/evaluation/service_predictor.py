"""A running service as one more thing that labels cases: it is measured by the same code."""

import base64
import gzip
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
from highdicom import Volume
from numpy.typing import NDArray
from pydantic import ValidationError

from service.inference.contract import ModelContract
from service.phantom_files import nifti_bytes
from service.volume import AIR_HU, TUMOR_LABEL
from training.data import Case
from training.evaluation.decision import Space
from training.prediction import Prediction

TIMEOUT_S = 900.0
"""Longer than the service gives itself for one answer."""

RULES = (
    "drop_liver_fragments",
    "drop_distant_tumor",
    "drop_small_lesions",
    "drop_unlikely_lesions",
)


class ServiceRefused(ValueError):
    """The service did not answer with a mask."""


@dataclass(frozen=True)
class ServicePredictor:
    """Posts each case as one NIfTI volume to `{address}/v1/segment` and reads the mask.

    Slices that the data set left out are sent as air. A case without spacing is sent with the
    assumed one. `rules`: whether the service applies its rules. The tumour probability is 1 where
    the label is tumour, since the mask does not tell it. Raises `ServiceRefused`.
    """

    address: str
    space: Space
    rules: bool

    def __call__(self, case: Case) -> Prediction:
        spacing_mm = self.space.spacing_mm(case)
        if spacing_mm is None:
            raise ServiceRefused(
                f"{case.name}: expected a spacing, or one to assume, to write a volume with"
            )
        stack = self.space.stack(case)
        volume = _volume(stack.fill(case.hu(), AIR_HU), spacing_mm)
        whole = _labels(self._post(nifti_bytes(volume), case.name))
        if whole.shape != volume.spatial_shape:
            raise ServiceRefused(
                f"{case.name}: expected a mask of {volume.spatial_shape}, found {whole.shape}"
            )
        labels = stack.take(whole)
        return Prediction(labels, np.where(labels == TUMOR_LABEL, 255, 0).astype(np.uint8))

    def contract(self) -> ModelContract:
        """What the service's model says of itself."""
        try:
            (model,) = self._answer("/v1/models")["models"]
            card = self._answer(f"/v1/models/{model['name']}")
            return ModelContract.model_validate(card["contract"])
        except (KeyError, TypeError, ValidationError, json.JSONDecodeError) as error:
            raise ServiceRefused(
                f"{self.address}: expected a service that tells its model's contract, found another"
            ) from error

    def _answer(self, path: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self.address}{path}", timeout=TIMEOUT_S) as answer:  # noqa: S310
                document: dict[str, Any] = json.load(answer)
                return document
        except urllib.error.HTTPError as error:
            with error:
                raise ServiceRefused(f"{path}: {_problem(error)}") from error
        except urllib.error.URLError as error:
            raise ServiceRefused(f"{self.address}: {error.reason}") from error

    def _post(self, nifti: bytes, name: str) -> bytes:
        """The mask's file out of the service's answer."""
        asked = {"include": "mask", **dict.fromkeys(RULES, str(self.rules).lower())}
        request = urllib.request.Request(  # noqa: S310  # the address was asked for as http
            f"{self.address}/v1/segment?{urllib.parse.urlencode(asked)}",
            data=nifti,
            headers={"Content-Type": "application/octet-stream", "Accept": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                return base64.b64decode(json.load(answer)["mask"]["base64"])
        except urllib.error.HTTPError as error:
            with error:
                raise ServiceRefused(f"{name}: {_problem(error)}") from error
        except urllib.error.URLError as error:
            raise ServiceRefused(f"{self.address}: {error.reason}") from error


def _problem(error: urllib.error.HTTPError) -> str:
    """The sentence of a problem document, or what stands in its place."""
    try:
        problem = json.load(error)
        return f"{problem['code']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"expected an answer, found status {error.code}"


def _volume(hu: NDArray[np.int16], spacing_mm: tuple[float, float, float]) -> Volume:
    """[slice, row, column] towards head, back and left, its first voxel at the origin."""
    slice_mm, row_mm, column_mm = spacing_mm
    affine = np.array(
        [[0, 0, column_mm, 0], [0, row_mm, 0, 0], [slice_mm, 0, 0, 0], [0, 0, 0, 1]], dtype=float
    )
    return Volume(hu, affine, "PATIENT")


def _labels(gzipped: bytes) -> NDArray[np.uint8]:
    """Of a mask in the file's own order [column, row, slice], as [slice, row, column]."""
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(gzipped))
    return np.ascontiguousarray(np.asarray(image.dataobj, dtype=np.uint8).transpose(2, 1, 0))
