"""Slices in every transfer syntax that can be written here."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import imagecodecs
import numpy as np
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

ENCAPSULATED_UNCOMPRESSED = UID("1.2.840.10008.1.2.1.98")

NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


@dataclass(frozen=True)
class Codec:
    """How a test encodes one slice of unsigned values, and how far decoding may be off, in HU."""

    syntax: UID
    encode: Callable[[np.ndarray], bytes]
    off_by: int = 0


def rle(stored: np.ndarray) -> bytes:
    """Through pydicom's encoder."""
    dataset = Dataset()
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * stored.itemsize
    dataset.PixelRepresentation = 0
    dataset.compress(RLELossless, stored, generate_instance_uid=False)
    return next(generate_frames(dataset.PixelData, number_of_frames=1))


def jpeg_lossless(predictor: int) -> Callable[[np.ndarray], bytes]:
    return lambda stored: imagecodecs.jpeg8_encode(
        stored, lossless=True, bitspersample=16, predictor=predictor
    )


def jpeg_2000(stored: np.ndarray, level: int = 0) -> bytes:
    return imagecodecs.jpeg2k_encode(
        stored, level=level, codecformat="j2k", bitspersample=8 * stored.itemsize
    )


CODECS = {
    "RLE": Codec(RLELossless, rle),
    "encapsulated": Codec(ENCAPSULATED_UNCOMPRESSED, lambda stored: stored.tobytes()),
    "JPEG lossless": Codec(JPEGLossless, jpeg_lossless(4)),
    "JPEG lossless SV1": Codec(JPEGLosslessSV1, jpeg_lossless(1)),
    "JPEG-LS": Codec(JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG-LS near": Codec(
        JPEGLSNearLossless, lambda stored: imagecodecs.jpegls_encode(stored, level=3), off_by=3
    ),
    "JPEG 2000 lossless": Codec(JPEG2000Lossless, jpeg_2000),
    # 90 dB of a 16-bit range leave a root mean square of 2; six of these are the bound.
    "JPEG 2000": Codec(JPEG2000, lambda stored: jpeg_2000(stored, level=90), off_by=12),
    "HTJ2K lossless": Codec(HTJ2KLossless, imagecodecs.htj2k_encode),
    "HTJ2K lossless RPCL": Codec(HTJ2KLosslessRPCL, imagecodecs.htj2k_encode),
    "HTJ2K": Codec(
        HTJ2K,
        lambda stored: imagecodecs.htj2k_encode(stored, level=1e-5, reversible=False),
        off_by=8,
    ),
}


def stored_values(dataset: Dataset) -> np.ndarray:
    return np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)


def set_frames(dataset: Dataset, syntax: UID, frames: list[bytes], **how: object) -> None:
    dataset.PixelData = encapsulate(frames, **how)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax


def written(dataset: Dataset) -> bytes:
    syntax = dataset.file_meta.TransferSyntaxUID
    buffer = io.BytesIO()
    dataset.save_as(
        buffer,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=True,
    )
    return buffer.getvalue()
