"""What `listen` takes: CT objects, in every transfer syntax that the service decodes."""

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
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from service.decode.multiframe import MULTI_FRAME, SINGLE_FRAME

VERIFICATION = UID("1.2.840.10008.1.1")

SOP_CLASSES = (SINGLE_FRAME, *MULTI_FRAME)

TRANSFER_SYNTAXES = (
    # The first that a context offers is chosen. A sender of compressed objects offers them in a
    # context of their own, or can decompress; one of uncompressed objects may not be able to
    # compress.
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    JPEGLSLossless,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    RLELossless,
    UID("1.2.840.10008.1.2.1.98"),  # encapsulated uncompressed explicit VR little endian
    # Uncompressed too, but retired from the standard.
    ExplicitVRBigEndian,
    # What loses something comes last.
    JPEGLSNearLossless,
    JPEG2000,
    HTJ2K,
    JPEGExtended12Bit,
    JPEGBaseline8Bit,
)
