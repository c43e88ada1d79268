"""What is kept of a result: files as they are sent, and arrays of which more is made on demand."""

import dataclasses
import hashlib
import io
import zipfile
import zlib
from collections.abc import Collection, Iterator
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from service.encode.dicom_seg import segmentation_dcm
from service.encode.nifti import image_nii_gz
from service.encode.objects import FILES, USUAL, ObjectName
from service.encode.png import mask_png, overlay_pngs
from service.encode.secondary_capture import overlays_dcm
from service.errors import NoDicomSource, NotFound
from service.findings import lesion_ids
from service.inference.segment import Segmentation
from service.inference.work import Labelled, Loaded
from service.jobs.records import key
from service.jobs.scene import Headers, Scene
from service.pacs.delivery import Instance
from service.pipeline import Result, dicom_object, documents
from service.store import Store

RESULT = "result.json"
"""Of the documents the one that says what was found."""

_SCENE = "scene.json"
_HEADERS = "headers.json"

_IDENTIFIERS = ["StudyInstanceUID", "SOPClassUID", "SOPInstanceUID"]
_IMAGE = "image.int16"
_LABELS = "labels.uint8"


def keep(
    store: Store,
    folder: str,
    result: Result,
    made_at: datetime,
    objects: Collection[ObjectName] = (),
) -> None:
    """Store a result's documents and arrays, and those of `objects` that are not always made.

    The same result and date give the same bytes.
    """
    timeless = dataclasses.replace(result, timings_s={})  # the job's outcome holds its timings
    for name, content in documents(timeless, made_at):
        store.put(key(folder, name), content)
    for rare in objects:
        if rare not in USUAL:
            for name, content in dicom_object(result, rare, made_at):
                store.put(key(folder, name), content)
    segmentation = result.segmentation
    store.put(key(folder, _IMAGE), _bytes(segmentation.scan.volume.array))
    store.put(key(folder, _LABELS), _bytes(segmentation.labels.array))
    headers = Headers.of(segmentation.scan, result.fingerprint)
    if headers is not None:
        store.put(key(folder, _HEADERS), headers.model_dump_json().encode())
    store.put(key(folder, _SCENE), Scene.of(result, made_at).model_dump_json().encode())


def kept_instances(
    store: Store, folder: str, objects: Collection[ObjectName]
) -> tuple[Instance, ...]:
    """The DICOM instances of these objects, read from the store as they are sent."""
    instances = []
    for name in objects:
        start = key(folder, FILES[name])
        for found in store.keys(start) if name == "overlays" else [start]:
            instances.append(_instance(store, name, found))
    return tuple(instances)


def _instance(store: Store, name: ObjectName, found: str) -> Instance:
    def data() -> bytes:
        content = store.get(found)
        if content is None:
            raise NotFound("Expected an object to be sent, found it deleted.")
        return content

    header = dcmread(io.BytesIO(data()), stop_before_pixels=True, specific_tags=_IDENTIFIERS)
    return Instance(
        object_name=name,
        study_instance_uid=str(header.StudyInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        sop_instance_uid=str(header.SOPInstanceUID),
        data=data,
    )


class Kept:
    """The pictures, volumes and rarer objects of one result, made from what was kept."""

    def __init__(self, store: Store, folder: str) -> None:
        """Raises `NotFound` where nothing is kept in this folder."""
        self._store, self._folder = store, folder
        scene = store.get(key(folder, _SCENE))
        if scene is None:
            raise NotFound("Expected a segmentation with a result, found none.")
        self._scene = Scene.model_validate_json(scene)

    @property
    def is_plain_image(self) -> bool:
        """Whether it is one picture, which lies nowhere in a patient."""
        return self._scene.shape[0] == 1 and self._scene.format not in ("dicom", "nifti")

    def outputs(self) -> Iterator[tuple[str, bytes]]:
        """Every output as (name, bytes), those that are drawn on demand, too."""
        start = f"{self._folder}/"
        for found in self._store.keys(self._folder):
            name = found.removeprefix(start)
            if name not in (_SCENE, _HEADERS, _IMAGE, _LABELS):
                yield name, self._object(name)
        for index in range(self._scene.shape[0]):
            yield f"masks/{index:04d}.png", self.mask_png(index)
            yield f"overlays/{index:04d}.png", self.overlay_png(index)

    def mask_png(self, index: int) -> bytes:
        """The labels of one slice. Raises `NotFound` for a slice that is not there."""
        return mask_png(self._slice(index).labels, 0)

    def overlay_png(self, index: int) -> bytes:
        """One slice with its outlines. Raises `NotFound` for a slice that is not there."""
        return next(overlay_pngs(self._slice(index), self._scene.window))

    def image_nii_gz(self) -> bytes:
        """The whole scan as NIfTI, on the grid of its mask."""
        hu = np.frombuffer(self._object(_IMAGE), np.int16).reshape(self._scene.shape)
        return image_nii_gz(self._scene.whole(hu, np.zeros(hu.shape, np.uint8), ()).scan)

    def labelmap_dcm(self) -> bytes:
        """The labels as a SEG of encoding LABELMAP. Raises `NoDicomSource`."""
        headers = self._headers()
        labels = np.frombuffer(self._object(_LABELS), np.uint8).reshape(self._scene.shape)
        # Of the image only its shape counts here: a view of one voxel takes no memory.
        hu = np.broadcast_to(np.zeros(1, np.int16), labels.shape)
        drawn = self._scene.whole(hu, labels, headers)
        ids = lesion_ids(labels)
        return segmentation_dcm(
            drawn.scan,
            drawn.labels,
            drawn.labels.with_array(ids),
            int(ids.max(initial=0)),
            self._scene.provenance,
            "labelmap",
        )

    def overlays_zip(self) -> bytes:
        """A zip of secondary captures, one a slice with liver. Raises `NoDicomSource`."""
        headers = self._headers()
        hu = np.frombuffer(self._object(_IMAGE), np.int16).reshape(self._scene.shape)
        labels = np.frombuffer(self._object(_LABELS), np.uint8).reshape(self._scene.shape)
        drawn, scene = self._scene.whole(hu, labels, headers), self._scene
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, content in overlays_dcm(drawn, scene.window, scene.provenance):
                # A date of its own would make each answer another one.
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()

    def _headers(self) -> tuple[Dataset, ...]:
        if self._scene.format != "dicom":
            found = self._scene.format
            raise NoDicomSource(f"Expected a DICOM source for a DICOM result, found {found}.")
        return Headers.model_validate_json(self._object(_HEADERS)).restored()

    def _slice(self, index: int) -> Segmentation:
        slices, rows, columns = self._scene.shape
        if not 0 <= index < slices:
            raise NotFound(f"Expected a slice from 0 to {slices - 1}, found another number.")
        size, shape = rows * columns, (1, rows, columns)
        hu = self._object(_IMAGE, 2 * size * index, 2 * size)
        labels = self._object(_LABELS, size * index, size)
        return self._scene.slice(
            np.frombuffer(hu, np.int16).reshape(shape),
            np.frombuffer(labels, np.uint8).reshape(shape),
        )

    def _object(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        name = key(self._folder, name)
        found = (
            self._store.get(name) if length is None else self._store.get_range(name, start, length)
        )
        if found is None:  # deleted since the scene was read
            raise NotFound("Expected a segmentation with a result, found it deleted.")
        return found


def pack(labelled: Labelled, model: Loaded) -> bytes:
    """The model's labels as they are kept between two steps of a job."""
    shape = np.array(labelled.labels.shape, np.int64).tobytes()
    arrays = (labelled.labels, labelled.tumor_probability)
    return zlib.compress(_maker(model) + shape + b"".join(map(_bytes, arrays)), level=1)


def unpack(data: bytes, model: Loaded) -> Labelled | None:
    """What `pack` packed; None where another model made it, or another kind of device."""
    values = memoryview(zlib.decompress(data))
    maker = _maker(model)
    if values[: len(maker)] != maker:
        return None
    values = values[len(maker) :]
    shape = np.frombuffer(values[:24], np.int64)
    labels, probability = np.frombuffer(values[24:], np.uint8).reshape(2, *shape)
    return Labelled(labels, probability)


def _maker(model: Loaded) -> bytes:
    return hashlib.sha256(f"{model.sha256} {model.provider}".encode()).digest()


def _bytes(array: NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(array).tobytes()
