"""Valid requests of every format, small, made from the phantom: what the fuzzer begins with."""

import bz2
import copy
import gzip
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
from dicom_files import series, to_bytes
from encoded_files import CODECS, NATIVE, set_frames, stored_values, written
from highdicom import Volume
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from multiframe_files import enhanced
from PIL import Image
from plain_files import picture, tar_named, tiff
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, JPEG2000Lossless, JPEGBaseline8Bit, generate_uid

from service.phantom import Phantom
from service.phantom_files import PHANTOM_NAME, nifti_bytes

Files = tuple[bytes, ...]

SLICES, SIZE_PX = 5, 32

_TEXTS = ("StudyDescription", "SeriesDescription", "PatientComments", "InstitutionName",
          "ProtocolName", "ImageComments", "OperatorsName", "AccessionNumber")  # fmt: skip

_OTHER_FILES = ("CT_small.dcm", "MR_small.dcm", "JPGExtended.dcm", "image_dfl.dcm", "no_meta.dcm",
                "ExplVR_BigEndNoMeta.dcm", "UN_sequence.dcm", "nested_priv_SQ.dcm", "badVR.dcm",
                "rtdose_1frame.dcm", "liver_1frame.dcm", "reportsi.dcm")  # fmt: skip
"""Of pydicom's own package: awkward ones, and other objects than CT."""


def seeds() -> dict[str, Files]:
    """Requests by name, each a tuple of files; the same at every call."""
    volume = _phantom()
    return {**_dicom(volume), **_nifti(volume), **_images(volume), **_containers(volume)}


def one_zip() -> Files:
    """One of them, made at once: to try whether everything is there."""
    return (zip_of(_named_slices(_phantom())),)


def _phantom() -> Volume:
    return Phantom.draw(7).sample(SLICES, SIZE_PX, noise_hu=0)[0]


def _slices(volume: Volume, seed: int = 0) -> list[Dataset]:
    """Slices whose every text names the patient, so that a text that leaks is seen."""
    found = series(volume, seed)
    for dataset in found:
        for keyword in _TEXTS:
            setattr(dataset, keyword, PHANTOM_NAME)
    return found


def _dicom(volume: Volume) -> dict[str, Files]:
    made = {f"dicom {syntax.name}": _native(volume, syntax) for syntax in NATIVE}
    for name, codec in CODECS.items():
        made[f"dicom {name}"] = _changed(
            volume,
            lambda dataset, codec=codec: set_frames(
                dataset, codec.syntax, [codec.encode(stored_values(dataset))]
            ),
        )
    made["dicom JPEG baseline"] = _changed(volume, _to_baseline)
    made["dicom signed 12 bits"] = _changed(volume, _to_signed)
    made["dicom MONOCHROME1"] = _changed(
        volume, lambda dataset: setattr(dataset, "PhotometricInterpretation", "MONOCHROME1")
    )
    made["dicom tilted"] = _changed(volume, _tilted)
    made["dicom enhanced"] = (to_bytes(enhanced(volume)),)
    made["dicom enhanced, JPEG 2000"] = (written(_enhanced_compressed(volume)),)
    legacy = LegacyConvertedEnhancedCTImage(
        _slices(volume), generate_uid(entropy_srcs=["legacy series"]), 1,
        generate_uid(entropy_srcs=["legacy instance"]), 1,
    )  # fmt: skip
    _date(legacy)
    made["dicom legacy converted"] = (to_bytes(legacy),)
    made["dicom two series"] = (
        *(to_bytes(dataset) for dataset in _slices(volume)),
        *(to_bytes(dataset) for dataset in _slices(volume[:3], seed=1)),
    )
    for name in _OTHER_FILES:
        made[f"dicom {name}"] = (Path(str(get_testdata_file(name, download=False))).read_bytes(),)
    return made


def _date(made: Dataset) -> None:
    """Put a fixed date and UID where a library puts the time of writing and random ones."""
    for element in made.iterall():
        if element.VR in ("DA", "TM", "DT"):
            element.value = {"DA": "20200102", "TM": "030405", "DT": "20200102030405"}[element.VR]
        elif element.keyword == "DimensionOrganizationUID":
            element.value = generate_uid(entropy_srcs=["dimensions"])


def _native(volume: Volume, syntax: str) -> Files:
    def change(dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = stored_values(dataset).astype(">u2").tobytes()

    return _changed(volume, change)


def _changed(volume: Volume, change: Callable[[Dataset], object]) -> Files:
    datasets = _slices(volume)
    for dataset in datasets:
        change(dataset)
    return tuple(written(dataset) for dataset in datasets)


def _to_baseline(dataset: Dataset) -> None:
    eight = np.clip(stored_values(dataset) // 16, 0, 255).astype(np.uint8)
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.RescaleSlope = 7, 16
    set_frames(dataset, JPEGBaseline8Bit, [imagecodecs.jpeg8_encode(eight, level=98)])


def _to_signed(dataset: Dataset) -> None:
    signed = np.clip(stored_values(dataset).astype(int) - 1024, -2048, 2047)
    dataset.PixelRepresentation, dataset.RescaleIntercept = 1, 0
    dataset.BitsStored, dataset.HighBit, dataset.PixelPaddingValue = 12, 11, -2000
    dataset.PixelData = (signed & 0xFFF).astype("<u2").tobytes()


def _tilted(dataset: Dataset) -> None:
    x, y, z = (float(value) for value in dataset.ImagePositionPatient)
    dataset.ImagePositionPatient = [x, round(y + z / 10, 3), z]


def _enhanced_compressed(volume: Volume) -> Dataset:
    whole = copy.deepcopy(enhanced(volume))
    frames = np.frombuffer(whole.PixelData, "<u2").reshape(SLICES, SIZE_PX, SIZE_PX)
    encode = CODECS["JPEG 2000 lossless"].encode
    set_frames(whole, JPEG2000Lossless, [])
    whole.PixelData = encapsulate([encode(frame) for frame in frames])
    return whole


def _nifti(volume: Volume) -> dict[str, Files]:
    plain = nifti_bytes(volume)
    array = np.asarray(volume.array)
    affine = np.diag([-12.5, 12.5, 36.0, 1.0])

    def written_as(kind: type, dtype: type, **fields: object) -> Files:
        image = kind(array.astype(dtype), affine, dtype=dtype)
        image.header["descrip"] = PHANTOM_NAME.encode()
        for name, value in fields.items():
            image.header[name] = value
        return (bytes(image.to_bytes()),)

    big = nibabel.Nifti1Image(array, affine, nibabel.Nifti1Header(endianness=">"))
    return {
        "nifti": (plain,),
        "nifti gz": (gzip.compress(plain, mtime=0),),
        "nifti bz2": (bz2.compress(plain),),
        "nifti-1 float32": written_as(nibabel.Nifti1Image, np.float32),
        "nifti-1 float64, scaled": written_as(
            nibabel.Nifti1Image, np.float64, scl_slope=2, scl_inter=-5
        ),
        "nifti-1 big endian": (bytes(big.to_bytes()),),
        "nifti-2": written_as(nibabel.Nifti2Image, np.int16),
        "nifti-2 int32": written_as(nibabel.Nifti2Image, np.int32),
    }


def _images(volume: Volume) -> dict[str, Files]:
    hu = np.asarray(volume.array)
    grey = np.clip((hu + 40.0) * 1.275, 0, 255).astype(np.uint8)
    deep = (hu + 1024).astype(np.uint16)
    color = np.dstack([grey[2]] * 3)
    made = {f"image {name}": (picture(grey[2], name),) for name in ("PNG", "JPEG", "TIFF", "BMP")}
    made |= {
        f"image TIFF {compression}": (_tiff_pages(grey, compression),)
        for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    }
    return made | {
        "image PNG 16 bits": (picture(deep[2]),),
        "image PNG colour": (picture(color),),
        "image PNG palette": (_palette(grey[2]),),
        "image JPEG progressive": (picture(color, "JPEG", progressive=True),),
        "image TIFF HU": (tiff(hu),),
        "image TIFF float": (tiff(hu.astype(np.float32), order=">"),),
        "image BigTIFF": (tiff(deep, big=True),),
        "image stack PNG": tuple(picture(page) for page in grey),
        "image stack JPEG": tuple(picture(page, "JPEG") for page in grey),
        "image stack BMP": tuple(picture(page, "BMP") for page in grey),
    }  # fmt: skip


def _tiff_pages(grey: np.ndarray, compression: str) -> bytes:
    first, *others = [Image.fromarray(page) for page in grey]
    buffer = io.BytesIO()
    first.save(buffer, "TIFF", save_all=True, append_images=others, compression=compression)
    return buffer.getvalue()


def _palette(grey: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(grey).convert("P").save(buffer, "PNG", transparency=3)
    return buffer.getvalue()


def _containers(volume: Volume) -> dict[str, Files]:
    files, plain = _named_slices(volume), nifti_bytes(volume)
    return {
        "zip of dicom": (zip_of(files),),
        "zip of dicom, stored": (zip_of(files, zipfile.ZIP_STORED),),
        "tar of dicom": (tar_named(files),),
        "tar.gz of dicom": (gzip.compress(tar_named(files), mtime=0),),
        "tar.bz2 of dicom": (bz2.compress(tar_named(files)),),
        "zip of nifti gz": (zip_of({PHANTOM_NAME: gzip.compress(plain, mtime=0)}),),
    }


def _named_slices(volume: Volume) -> dict[str, bytes]:
    return {
        f"{PHANTOM_NAME}/{index}.dcm": to_bytes(dataset)
        for index, dataset in enumerate(_slices(volume))
    }


def zip_of(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip without the time at which it was made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()
