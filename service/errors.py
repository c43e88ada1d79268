"""Everything that can go wrong, as one tree.

    ServiceError
    |-- BadRequest                 the client can mend it
    |   |-- EmptyInput, InvalidParameter, UnsafeArchive, UnknownNode                400
    |   |-- NotAcceptable                                                          406
    |   |-- UploadTimeout                                                          408
    |   |-- IdempotencyConflict, NoResult, Cancelled                               409
    |   |-- TooManyRequests        from this caller                                429
    |   |   `-- TooManyKeys        that are not valid, from this address
    |   |-- RequestTooLarge, ArchiveTooLarge, TooManyFiles, TooManyVoxels          413
    |   |-- UnsupportedMediaType, UnknownFormat, UnsupportedTransferSyntax         415
    |   `-- UnreadableFile, NoCtSeries, WrongModality, InconsistentSeries,
    |       GantryTilt, UnevenSliceSpacing, DuplicateSlices, NoGeometry,
    |       ColorImage, UnsupportedPixels, ImageTooSmall, TooManyLesions,
    |       NoDicomSource, SeriesNotFound                                        422
    |-- Refused                    at the door, before the request is looked at
    |   |-- Unauthorized                                                           401
    |   `-- Forbidden, ForeignHost, ForeignOrigin                                  403
    |-- NotFound                                                                   404
    |-- MethodNotAllowed                                                           405
    |-- MalformedRequest           what arrived is no HTTP request                 400
    |-- HeadersTooLarge                                                            431
    |-- InternalError              a defect of the service                         500
    |-- OriginError                the PACS that a series is fetched from          502
    |   `-- OriginUnreachable, OriginRefused, OriginIncomplete, OriginInvalid
    |   `-- Abandoned              a job that ended its process time and again
    |-- Busy, ModelNotReady, DeadlineExceeded, ShuttingDown, Unavailable           503
    |-- StorageFull, OutOfMemory                                                   507
    `-- StartupError               ends the process before it serves
        |-- DeviceUnavailable
        |-- InvalidPacsFile
        `-- InvalidModel           the service lives, and is never ready

A message says what was expected and what was found. It holds no path and no text of a file that
may name a patient; slices are named by InstanceNumber.
"""

from http import HTTPStatus
from typing import ClassVar


class ServiceError(Exception):
    """A known failure: `code` is stable, `title` one sentence, the message this occurrence."""

    code: ClassVar[str]
    status: ClassVar[HTTPStatus]
    title: ClassVar[str]


class BadRequest(ServiceError):
    """The request cannot be fulfilled as it is; the client can change that."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


class EmptyInput(BadRequest):
    code = "empty_input"
    status = HTTPStatus.BAD_REQUEST
    title = "The request holds no data."


class InvalidParameter(BadRequest):
    code = "invalid_parameter"
    status = HTTPStatus.BAD_REQUEST
    title = "A parameter is unknown or has a value that is not allowed."


class UnknownNode(BadRequest):
    code = "unknown_node"
    status = HTTPStatus.BAD_REQUEST
    title = "The settings name no such PACS, or none that can be used so."


class UnsafeArchive(BadRequest):
    code = "unsafe_archive"
    status = HTTPStatus.BAD_REQUEST
    title = "The archive is encrypted, nested, or made in a way that the service does not open."


class NotAcceptable(BadRequest):
    code = "not_acceptable"
    status = HTTPStatus.NOT_ACCEPTABLE
    title = "None of the accepted media types can be produced."


class UploadTimeout(BadRequest):
    code = "upload_timeout"
    status = HTTPStatus.REQUEST_TIMEOUT
    title = "The request's body did not arrive in time."


class IdempotencyConflict(BadRequest):
    code = "idempotency_conflict"
    status = HTTPStatus.CONFLICT
    title = "The Idempotency-Key was used before, for another request."


class NoResult(BadRequest):
    code = "no_result"
    status = HTTPStatus.CONFLICT
    title = "The segmentation has no result, or none yet."


class Cancelled(BadRequest):
    code = "cancelled"
    status = HTTPStatus.CONFLICT
    title = "The segmentation was cancelled before it was done."


class TooManyRequests(BadRequest):
    code = "too_many_requests"
    status = HTTPStatus.TOO_MANY_REQUESTS
    title = "The caller has sent more requests than it may for now."

    def __init__(self, detail: str, retry_after_s: float = 60) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class TooManyKeys(TooManyRequests):
    code = "too_many_keys"
    title = "Too many keys that are not valid came from this address."


class RequestTooLarge(BadRequest):
    code = "request_too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    title = "The request has more bytes than the service takes."


class ArchiveTooLarge(BadRequest):
    code = "archive_too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    title = "The data has more bytes, once decompressed, than the service takes."


class TooManyFiles(BadRequest):
    code = "too_many_files"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    title = "The request has more files than the service takes."


class TooManyVoxels(BadRequest):
    code = "too_many_voxels"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    title = "The image has more voxels than the service takes."


class UnsupportedMediaType(BadRequest):
    code = "unsupported_media_type"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    title = "The Content-Type is not one that the service takes."


class UnknownFormat(BadRequest):
    code = "unknown_format"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    title = "The data is of no format that the service takes."


class UnsupportedTransferSyntax(BadRequest):
    code = "unsupported_transfer_syntax"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    title = "The pixel data is compressed in a way that the service cannot decode."


class UnreadableFile(BadRequest):
    code = "unreadable_file"
    title = "A file is truncated or damaged."


class NoCtSeries(BadRequest):
    code = "no_ct_series"
    title = "The data holds no CT images that can be segmented."


class WrongModality(BadRequest):
    code = "wrong_modality"
    title = "The images are of another modality than the model was trained for."


class InconsistentSeries(BadRequest):
    code = "inconsistent_series"
    title = "The slices of the series do not belong to one volume."


class GantryTilt(BadRequest):
    code = "gantry_tilt"
    title = "The slices are not stacked along their normal."


class UnevenSliceSpacing(BadRequest):
    code = "uneven_slice_spacing"
    title = "Slices are missing, or the distance between slices changes."


class DuplicateSlices(BadRequest):
    code = "duplicate_slices"
    title = "Several slices lie at the same position."


class NoGeometry(BadRequest):
    code = "no_geometry"
    title = "The image's position and orientation are missing or cannot be used."


class ColorImage(BadRequest):
    code = "color_image"
    title = "The image has colour; a CT slice is grey."


class UnsupportedPixels(BadRequest):
    code = "unsupported_pixels"
    title = "The pixel values are not of a kind that the service takes."


class ImageTooSmall(BadRequest):
    code = "image_too_small"
    title = "The image has too few pixels to show anything."


class TooManyLesions(BadRequest):
    code = "too_many_lesions"
    title = "The labels fall into more lesions than the service measures; keep small ones dropped."


class NoDicomSource(BadRequest):
    code = "no_dicom_source"
    title = "A DICOM result needs a DICOM source."


class SeriesNotFound(BadRequest):
    code = "series_not_found"
    title = "The PACS has no instances of the series."


class Refused(ServiceError):
    """The caller may not ask this, whatever the request holds."""

    status = HTTPStatus.FORBIDDEN


class Unauthorized(Refused):
    code = "unauthorized"
    status = HTTPStatus.UNAUTHORIZED
    title = "The service asks for a key, and was given none that is valid."


class Forbidden(Refused):
    code = "forbidden"
    title = "The key does not allow this."


class ForeignHost(Refused):
    code = "foreign_host"
    title = "The service was addressed by a name that the settings do not list."


class ForeignOrigin(Refused):
    code = "foreign_origin"
    title = "A page of another site may not call the service."


class NotFound(ServiceError):
    code = "not_found"
    status = HTTPStatus.NOT_FOUND
    title = "There is nothing at this address."


class MethodNotAllowed(ServiceError):
    code = "method_not_allowed"
    status = HTTPStatus.METHOD_NOT_ALLOWED
    title = "The address does not take this method."


class MalformedRequest(ServiceError):
    code = "malformed_request"
    status = HTTPStatus.BAD_REQUEST
    title = "What arrived is no HTTP request that the service can read."


class HeadersTooLarge(ServiceError):
    code = "headers_too_large"
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    title = "The request's line and headers have more bytes than the service takes."


class Busy(ServiceError):
    code = "busy"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "As many requests as the service takes are already waiting."


class ModelNotReady(ServiceError):
    code = "model_not_ready"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "The model is not ready."


class DeadlineExceeded(ServiceError):
    code = "deadline_exceeded"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "The answer took longer than the service allows."


class ShuttingDown(ServiceError):
    code = "shutting_down"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "The service is ending; what it keeps will go on when it starts again."


class StorageFull(ServiceError):
    code = "storage_full"
    status = HTTPStatus.INSUFFICIENT_STORAGE
    title = "The service has no room left to store data."


class Unavailable(ServiceError):
    code = "unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "The service's database or object store cannot be reached."


class OutOfMemory(ServiceError):
    code = "out_of_memory"
    status = HTTPStatus.INSUFFICIENT_STORAGE
    title = "The volume needs more memory than the service has."


class InternalError(ServiceError):
    code = "internal_error"
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    title = "The service failed; the log holds the request's id."


class Abandoned(InternalError):
    code = "abandoned"
    title = "The segmentation ended the service each time it was tried."


class OriginError(ServiceError):
    """A PACS did not give what it was asked for."""

    status = HTTPStatus.BAD_GATEWAY


class OriginUnreachable(OriginError):
    code = "origin_unreachable"
    title = "The PACS cannot be reached, is too slow, or is failing."


class OriginRefused(OriginError):
    code = "origin_refused"
    title = "The PACS does not let the service in."


class OriginIncomplete(OriginError):
    code = "origin_incomplete"
    title = "The PACS did not send all instances of the series."


class OriginInvalid(OriginError):
    code = "origin_invalid"
    title = "The PACS answered with something that its protocol does not allow."


class StartupError(ServiceError):
    """The service cannot work as it is configured."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class DeviceUnavailable(StartupError):
    code = "device_unavailable"
    title = "The configured device cannot be used."


class ForeignStore(StartupError):
    code = "foreign_store"
    title = "The store of results belongs to another service."


class InvalidPacsFile(StartupError):
    code = "invalid_pacs_file"
    title = "The file of PACS nodes is missing, or is not what its format says."


class InvalidModel(StartupError):
    code = "invalid_model"
    title = "The model file is missing, damaged, or not what its contract says."


def with_code(code: str, detail: str) -> ServiceError:
    """The error of a stable code. Raises `KeyError` for a code that there is not."""
    kinds: list[type[ServiceError]] = [ServiceError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        if getattr(kind, "code", None) == code:
            return kind(detail)
    raise KeyError(code)
