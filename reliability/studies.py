"""Small studies of several formats, and what the service must make of them."""

import gzip
import uuid
from dataclasses import dataclass

import imagecodecs
import numpy as np
from dicom_files import series, to_bytes
from encoded_files import set_frames, stored_values, written
from highdicom import Volume
from multiframe_files import enhanced
from plain_files import picture, tar_named, tiff
from pydicom.uid import JPEGLSLossless

from reliability.seeds import Files, zip_of
from service.phantom import Phantom
from service.phantom_files import nifti_bytes


@dataclass(frozen=True)
class Study:
    """A request's body with its media type, and the files that it holds."""

    name: str
    media_type: str
    body: bytes
    files: Files


def studies(slices: int = 12, size: int = 128) -> list[Study]:
    """The phantom as zip, tar, form, multi-frame, NIfTI, stack and picture."""
    return studies_of(Phantom.draw(7).sample(slices, size, seed=1)[0])


def studies_of(volume: Volume) -> list[Study]:
    """The same of any volume of Hounsfield units; the picture is its middle slice."""
    single = {f"{index}.dcm": to_bytes(item) for index, item in enumerate(series(volume))}
    compressed = {f"{index}.dcm": data for index, data in enumerate(_jpeg_ls(volume))}
    grey = np.clip((np.asarray(volume.array) + 40.0) * 1.275, 0, 255).astype(np.uint8)
    return [
        _plain("zip", "application/zip", zip_of(single)),
        _plain("tar.gz of JPEG-LS", "application/gzip", gzip.compress(tar_named(compressed), 1)),
        _form("form", tuple(single.values())),
        _plain("multi-frame", "application/dicom", to_bytes(enhanced(volume))),
        _plain("NIfTI", "application/octet-stream", gzip.compress(nifti_bytes(volume), 1)),
        _plain("TIFF stack", "image/tiff", tiff(np.asarray(volume.array))),
        _plain("PNG", "image/png", picture(grey[len(grey) // 2])),
    ]


def _plain(name: str, media_type: str, body: bytes) -> Study:
    return Study(name, media_type, body, (body,))


def _form(name: str, files: Files) -> Study:
    boundary = uuid.uuid4().hex
    disposition = 'Content-Disposition: form-data; name="files"; filename="f"'
    head = f"--{boundary}\r\n{disposition}\r\n\r\n".encode()
    parts = [head + data + b"\r\n" for data in files]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return Study(name, f"multipart/form-data; boundary={boundary}", body, files)


def _jpeg_ls(volume: Volume) -> list[bytes]:
    datasets = series(volume)
    for dataset in datasets:
        frame = imagecodecs.jpegls_encode(stored_values(dataset))
        set_frames(dataset, JPEGLSLossless, [frame])
    return [written(dataset) for dataset in datasets]
