"""CT volumes as files, as a scanner or a converter would write them: for examples and tests."""

from pathlib import Path

import nibabel
import numpy as np
from highdicom import Volume
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

PHANTOM_NAME = "Phantom^Petra"
PHANTOM_ID = "PHANTOM-1"
"""Of the patient in every phantom series; no log, error or file name may ever hold them."""

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

_RESCALE_INTERCEPT = -1024


def ct_datasets(volume: Volume, seed: int = 0) -> list[Dataset]:
    """One CT Image Storage dataset per slice of an int16 volume [slice, row, column] in HU.

    The slices keep the volume's order and geometry, whatever its orientation, with rows and columns
    as the file's. UIDs depend on `seed` only. A volume whose columns, rows and slices are
    left-handed keeps its positions: DICOM stores a position per slice.
    """
    study, series, frame = (_uid(seed, part) for part in ("study", "series", "frame"))
    columns_axis, rows_axis = volume.unit_vectors()[2], volume.unit_vectors()[1]
    datasets = []
    for index, position in enumerate(volume.get_plane_positions()):
        dataset = Dataset()
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = _uid(seed, f"instance {index}")
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.FrameOfReferenceUID = frame
        dataset.PatientName, dataset.PatientID = PHANTOM_NAME, PHANTOM_ID
        dataset.PatientBirthDate, dataset.PatientSex = "19500101", "O"
        dataset.StudyDate, dataset.StudyTime = "20200102", "030405"
        dataset.StudyID, dataset.AccessionNumber = "1", "A1"
        dataset.ReferringPhysicianName = ""
        dataset.SeriesNumber, dataset.InstanceNumber = 3, index + 1
        dataset.PositionReferenceIndicator = ""
        dataset.Manufacturer = "Phantom"
        dataset.Modality = "CT"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.KVP, dataset.AcquisitionNumber = "120", 1
        dataset.ImagePositionPatient = _decimals(position[0].ImagePositionPatient)
        dataset.ImageOrientationPatient = _decimals([*columns_axis, *rows_axis])
        dataset.PixelSpacing = _decimals(volume.pixel_spacing)
        dataset.SliceThickness = _decimals([volume.spacing_between_slices])[0]
        _set_pixels(dataset, np.asarray(volume.array[index], dtype=np.int16))
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        datasets.append(dataset)
    return datasets


def write_dicom(volume: Volume, folder: Path, seed: int = 0) -> None:
    """Write the volume as one file per slice into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, dataset in enumerate(ct_datasets(volume, seed)):
        dataset.save_as(folder / f"{index:04d}.dcm", enforce_file_format=True)


def nifti_bytes(volume: Volume) -> bytes:
    """The volume as an uncompressed NIfTI-1 file whose array is [column, row, slice]."""
    affine = RAS_FROM_LPS @ volume.affine[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(np.asarray(volume.array).transpose(2, 1, 0), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    return bytes(image.to_bytes())


def _set_pixels(dataset: Dataset, hu: np.ndarray) -> None:
    dataset.Rows, dataset.Columns = hu.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, _RESCALE_INTERCEPT
    dataset.RescaleType = "HU"
    stored = np.clip(hu.astype(np.int32) - _RESCALE_INTERCEPT, 0, 65535)
    dataset.PixelData = stored.astype("<u2").tobytes()


def _uid(seed: int, part: str) -> str:
    return str(generate_uid(entropy_srcs=[f"phantom {seed}", part]))


def _decimals(values: object) -> list[str]:
    """DICOM decimal strings of at most 16 characters, to about nine digits."""
    return [f"{float(value):.9g}"[:16] for value in np.asarray(values, dtype=float)]
