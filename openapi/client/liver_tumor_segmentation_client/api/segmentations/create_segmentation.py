from http import HTTPStatus
from typing import Any

import httpx

from ... import errors
from ...client import AuthenticatedClient, Client
from ...models.create_segmentation_files_body import CreateSegmentationFilesBody
from ...models.create_segmentation_priority import CreateSegmentationPriority
from ...models.problem import Problem
from ...models.segmentation_document import SegmentationDocument
from ...types import UNSET, File, Response, Unset


def _get_kwargs(
    *,
    body: CreateSegmentationFilesBody | File | Unset = UNSET,
    series_instance_uid: str | Unset = UNSET,
    resample: bool | Unset = UNSET,
    pixel_spacing_mm: float | Unset = UNSET,
    window_lower_hu: float | Unset = UNSET,
    window_upper_hu: float | Unset = UNSET,
    drop_liver_fragments: bool | Unset = UNSET,
    drop_distant_tumor: bool | Unset = UNSET,
    drop_small_lesions: bool | Unset = UNSET,
    drop_unlikely_lesions: bool | Unset = UNSET,
    priority: CreateSegmentationPriority | Unset = UNSET,
    deadline_s: float | Unset = UNSET,
    destination: str | Unset = UNSET,
    objects: str | Unset = UNSET,
    prefer: str | Unset = UNSET,
    idempotency_key: str | Unset = UNSET,
) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    if not isinstance(prefer, Unset):
        headers["Prefer"] = prefer

    if not isinstance(idempotency_key, Unset):
        headers["Idempotency-Key"] = idempotency_key

    params: dict[str, Any] = {}

    params["series_instance_uid"] = series_instance_uid

    params["resample"] = resample

    params["pixel_spacing_mm"] = pixel_spacing_mm

    params["window_lower_hu"] = window_lower_hu

    params["window_upper_hu"] = window_upper_hu

    params["drop_liver_fragments"] = drop_liver_fragments

    params["drop_distant_tumor"] = drop_distant_tumor

    params["drop_small_lesions"] = drop_small_lesions

    params["drop_unlikely_lesions"] = drop_unlikely_lesions

    json_priority: str | Unset = UNSET
    if not isinstance(priority, Unset):
        json_priority = priority.value

    params["priority"] = json_priority

    params["deadline_s"] = deadline_s

    params["destination"] = destination

    params["objects"] = objects

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/v1/segmentations",
        "params": params,
    }

    if isinstance(body, CreateSegmentationFilesBody):
        _kwargs["files"] = body.to_multipart()

        headers["Content-Type"] = "multipart/form-data; boundary=+++"
    if isinstance(body, File):
        _kwargs["content"] = body.payload
        headers["Content-Type"] = "application/dicom"
    if isinstance(body, File):
        _kwargs["content"] = body.payload
        headers["Content-Type"] = "application/zip"
    if isinstance(body, File):
        _kwargs["content"] = body.payload
        headers["Content-Type"] = "application/x-tar"
    if isinstance(body, File):
        _kwargs["content"] = body.payload
        headers["Content-Type"] = "application/gzip"
    if isinstance(body, File):
        _kwargs["content"] = body.payload
        headers["Content-Type"] = "application/x-bzip2"
    if isinstance(body, File):
        _kwargs["content"] = body.payload
        headers["Content-Type"] = "image/png"
    if isinstance(body, File):
        _kwargs["content"] = body.payload
        headers["Content-Type"] = "image/jpeg"
    if isinstance(body, File):
        _kwargs["content"] = body.payload
        headers["Content-Type"] = "image/tiff"
    if isinstance(body, File):
        _kwargs["content"] = body.payload
        headers["Content-Type"] = "image/bmp"
    if isinstance(body, File):
        _kwargs["content"] = body.payload
        headers["Content-Type"] = "application/octet-stream"

    _kwargs["headers"] = headers
    return _kwargs


def _parse_response(
    *, client: AuthenticatedClient | Client, response: httpx.Response
) -> Problem | SegmentationDocument | None:
    if response.status_code == 201:
        response_201 = SegmentationDocument.from_dict(response.json())

        return response_201

    if response.status_code == 202:
        response_202 = SegmentationDocument.from_dict(response.json())

        return response_202

    if response.status_code == 400:
        response_400 = Problem.from_dict(response.json())

        return response_400

    if response.status_code == 401:
        response_401 = Problem.from_dict(response.json())

        return response_401

    if response.status_code == 403:
        response_403 = Problem.from_dict(response.json())

        return response_403

    if response.status_code == 408:
        response_408 = Problem.from_dict(response.json())

        return response_408

    if response.status_code == 409:
        response_409 = Problem.from_dict(response.json())

        return response_409

    if response.status_code == 413:
        response_413 = Problem.from_dict(response.json())

        return response_413

    if response.status_code == 415:
        response_415 = Problem.from_dict(response.json())

        return response_415

    if response.status_code == 422:
        response_422 = Problem.from_dict(response.json())

        return response_422

    if response.status_code == 429:
        response_429 = Problem.from_dict(response.json())

        return response_429

    if response.status_code == 431:
        response_431 = Problem.from_dict(response.json())

        return response_431

    if response.status_code == 500:
        response_500 = Problem.from_dict(response.json())

        return response_500

    if response.status_code == 503:
        response_503 = Problem.from_dict(response.json())

        return response_503

    if response.status_code == 507:
        response_507 = Problem.from_dict(response.json())

        return response_507

    if client.raise_on_unexpected_status:
        raise errors.UnexpectedStatus(response.status_code, response.content)
    else:
        return None


def _build_response(
    *, client: AuthenticatedClient | Client, response: httpx.Response
) -> Response[Problem | SegmentationDocument]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    *,
    client: AuthenticatedClient | Client,
    body: CreateSegmentationFilesBody | File | Unset = UNSET,
    series_instance_uid: str | Unset = UNSET,
    resample: bool | Unset = UNSET,
    pixel_spacing_mm: float | Unset = UNSET,
    window_lower_hu: float | Unset = UNSET,
    window_upper_hu: float | Unset = UNSET,
    drop_liver_fragments: bool | Unset = UNSET,
    drop_distant_tumor: bool | Unset = UNSET,
    drop_small_lesions: bool | Unset = UNSET,
    drop_unlikely_lesions: bool | Unset = UNSET,
    priority: CreateSegmentationPriority | Unset = UNSET,
    deadline_s: float | Unset = UNSET,
    destination: str | Unset = UNSET,
    objects: str | Unset = UNSET,
    prefer: str | Unset = UNSET,
    idempotency_key: str | Unset = UNSET,
) -> Response[Problem | SegmentationDocument]:
    """Segment one CT series or image, durably

     Accepts what `/v1/segment` accepts, and keeps the result until it is deleted.

    What was accepted is finished, whatever happens to the service meanwhile. Files that fail the
    checks of container, limits, headers and geometry make no segmentation.

    Args:
        series_instance_uid (str | Unset): Which CT series; by default the axial one with most
            slices, then thinnest.
        resample (bool | Unset): Take a tilted or unevenly spaced axial series, which is refused
            otherwise. By default false.
        pixel_spacing_mm (float | Unset): Pixel side of images; DICOM and NIfTI know theirs.
        window_lower_hu (float | Unset): What grey 0 of an image stands for; with window_upper_hu.
        window_upper_hu (float | Unset): What grey 255 of an 8-bit image, 65535 of a 16-bit one,
            stands for; with window_lower_hu. 16-bit images need both.
        drop_liver_fragments (bool | Unset): Drop pieces of liver under 5 % of the largest, and
            all where that is under 1 mL, in volumes. By default true.
        drop_distant_tumor (bool | Unset): Drop tumour farther than 5 mm from the filled liver, in
            volumes. By default true.
        drop_small_lesions (bool | Unset): Drop lesions under the model's smallest size. By
            default true.
        drop_unlikely_lesions (bool | Unset): Drop lesions that the model's limits take for none:
            hardly surrounded by liver, of fluid, or no different from the liver around them. By
            default true.
        priority (CreateSegmentationPriority | Unset): `stat` comes before all `routine` ones that
            have not begun. By default "routine".
        deadline_s (float | Unset): Seconds from now after which the segmentation fails if it is
            not done.
        destination (str | Unset): Name of the PACS node of the settings that the objects are sent
            to.
        objects (str | Unset): Which objects, separated by commas; by default seg,sr,rtstruct. sr
            needs seg.
        prefer (str | Unset): `respond-async` answers at once, `wait=N` after at most N seconds
            (RFC 7240).
        idempotency_key (str | Unset): A repeat with the same key and body gets the first answer;
            with another body 409.
        body (CreateSegmentationFilesBody):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | SegmentationDocument]
    """

    kwargs = _get_kwargs(
        body=body,
        series_instance_uid=series_instance_uid,
        resample=resample,
        pixel_spacing_mm=pixel_spacing_mm,
        window_lower_hu=window_lower_hu,
        window_upper_hu=window_upper_hu,
        drop_liver_fragments=drop_liver_fragments,
        drop_distant_tumor=drop_distant_tumor,
        drop_small_lesions=drop_small_lesions,
        drop_unlikely_lesions=drop_unlikely_lesions,
        priority=priority,
        deadline_s=deadline_s,
        destination=destination,
        objects=objects,
        prefer=prefer,
        idempotency_key=idempotency_key,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    *,
    client: AuthenticatedClient | Client,
    body: CreateSegmentationFilesBody | File | Unset = UNSET,
    series_instance_uid: str | Unset = UNSET,
    resample: bool | Unset = UNSET,
    pixel_spacing_mm: float | Unset = UNSET,
    window_lower_hu: float | Unset = UNSET,
    window_upper_hu: float | Unset = UNSET,
    drop_liver_fragments: bool | Unset = UNSET,
    drop_distant_tumor: bool | Unset = UNSET,
    drop_small_lesions: bool | Unset = UNSET,
    drop_unlikely_lesions: bool | Unset = UNSET,
    priority: CreateSegmentationPriority | Unset = UNSET,
    deadline_s: float | Unset = UNSET,
    destination: str | Unset = UNSET,
    objects: str | Unset = UNSET,
    prefer: str | Unset = UNSET,
    idempotency_key: str | Unset = UNSET,
) -> Problem | SegmentationDocument | None:
    """Segment one CT series or image, durably

     Accepts what `/v1/segment` accepts, and keeps the result until it is deleted.

    What was accepted is finished, whatever happens to the service meanwhile. Files that fail the
    checks of container, limits, headers and geometry make no segmentation.

    Args:
        series_instance_uid (str | Unset): Which CT series; by default the axial one with most
            slices, then thinnest.
        resample (bool | Unset): Take a tilted or unevenly spaced axial series, which is refused
            otherwise. By default false.
        pixel_spacing_mm (float | Unset): Pixel side of images; DICOM and NIfTI know theirs.
        window_lower_hu (float | Unset): What grey 0 of an image stands for; with window_upper_hu.
        window_upper_hu (float | Unset): What grey 255 of an 8-bit image, 65535 of a 16-bit one,
            stands for; with window_lower_hu. 16-bit images need both.
        drop_liver_fragments (bool | Unset): Drop pieces of liver under 5 % of the largest, and
            all where that is under 1 mL, in volumes. By default true.
        drop_distant_tumor (bool | Unset): Drop tumour farther than 5 mm from the filled liver, in
            volumes. By default true.
        drop_small_lesions (bool | Unset): Drop lesions under the model's smallest size. By
            default true.
        drop_unlikely_lesions (bool | Unset): Drop lesions that the model's limits take for none:
            hardly surrounded by liver, of fluid, or no different from the liver around them. By
            default true.
        priority (CreateSegmentationPriority | Unset): `stat` comes before all `routine` ones that
            have not begun. By default "routine".
        deadline_s (float | Unset): Seconds from now after which the segmentation fails if it is
            not done.
        destination (str | Unset): Name of the PACS node of the settings that the objects are sent
            to.
        objects (str | Unset): Which objects, separated by commas; by default seg,sr,rtstruct. sr
            needs seg.
        prefer (str | Unset): `respond-async` answers at once, `wait=N` after at most N seconds
            (RFC 7240).
        idempotency_key (str | Unset): A repeat with the same key and body gets the first answer;
            with another body 409.
        body (CreateSegmentationFilesBody):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | SegmentationDocument
    """

    return sync_detailed(
        client=client,
        body=body,
        series_instance_uid=series_instance_uid,
        resample=resample,
        pixel_spacing_mm=pixel_spacing_mm,
        window_lower_hu=window_lower_hu,
        window_upper_hu=window_upper_hu,
        drop_liver_fragments=drop_liver_fragments,
        drop_distant_tumor=drop_distant_tumor,
        drop_small_lesions=drop_small_lesions,
        drop_unlikely_lesions=drop_unlikely_lesions,
        priority=priority,
        deadline_s=deadline_s,
        destination=destination,
        objects=objects,
        prefer=prefer,
        idempotency_key=idempotency_key,
    ).parsed


async def asyncio_detailed(
    *,
    client: AuthenticatedClient | Client,
    body: CreateSegmentationFilesBody | File | Unset = UNSET,
    series_instance_uid: str | Unset = UNSET,
    resample: bool | Unset = UNSET,
    pixel_spacing_mm: float | Unset = UNSET,
    window_lower_hu: float | Unset = UNSET,
    window_upper_hu: float | Unset = UNSET,
    drop_liver_fragments: bool | Unset = UNSET,
    drop_distant_tumor: bool | Unset = UNSET,
    drop_small_lesions: bool | Unset = UNSET,
    drop_unlikely_lesions: bool | Unset = UNSET,
    priority: CreateSegmentationPriority | Unset = UNSET,
    deadline_s: float | Unset = UNSET,
    destination: str | Unset = UNSET,
    objects: str | Unset = UNSET,
    prefer: str | Unset = UNSET,
    idempotency_key: str | Unset = UNSET,
) -> Response[Problem | SegmentationDocument]:
    """Segment one CT series or image, durably

     Accepts what `/v1/segment` accepts, and keeps the result until it is deleted.

    What was accepted is finished, whatever happens to the service meanwhile. Files that fail the
    checks of container, limits, headers and geometry make no segmentation.

    Args:
        series_instance_uid (str | Unset): Which CT series; by default the axial one with most
            slices, then thinnest.
        resample (bool | Unset): Take a tilted or unevenly spaced axial series, which is refused
            otherwise. By default false.
        pixel_spacing_mm (float | Unset): Pixel side of images; DICOM and NIfTI know theirs.
        window_lower_hu (float | Unset): What grey 0 of an image stands for; with window_upper_hu.
        window_upper_hu (float | Unset): What grey 255 of an 8-bit image, 65535 of a 16-bit one,
            stands for; with window_lower_hu. 16-bit images need both.
        drop_liver_fragments (bool | Unset): Drop pieces of liver under 5 % of the largest, and
            all where that is under 1 mL, in volumes. By default true.
        drop_distant_tumor (bool | Unset): Drop tumour farther than 5 mm from the filled liver, in
            volumes. By default true.
        drop_small_lesions (bool | Unset): Drop lesions under the model's smallest size. By
            default true.
        drop_unlikely_lesions (bool | Unset): Drop lesions that the model's limits take for none:
            hardly surrounded by liver, of fluid, or no different from the liver around them. By
            default true.
        priority (CreateSegmentationPriority | Unset): `stat` comes before all `routine` ones that
            have not begun. By default "routine".
        deadline_s (float | Unset): Seconds from now after which the segmentation fails if it is
            not done.
        destination (str | Unset): Name of the PACS node of the settings that the objects are sent
            to.
        objects (str | Unset): Which objects, separated by commas; by default seg,sr,rtstruct. sr
            needs seg.
        prefer (str | Unset): `respond-async` answers at once, `wait=N` after at most N seconds
            (RFC 7240).
        idempotency_key (str | Unset): A repeat with the same key and body gets the first answer;
            with another body 409.
        body (CreateSegmentationFilesBody):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | SegmentationDocument]
    """

    kwargs = _get_kwargs(
        body=body,
        series_instance_uid=series_instance_uid,
        resample=resample,
        pixel_spacing_mm=pixel_spacing_mm,
        window_lower_hu=window_lower_hu,
        window_upper_hu=window_upper_hu,
        drop_liver_fragments=drop_liver_fragments,
        drop_distant_tumor=drop_distant_tumor,
        drop_small_lesions=drop_small_lesions,
        drop_unlikely_lesions=drop_unlikely_lesions,
        priority=priority,
        deadline_s=deadline_s,
        destination=destination,
        objects=objects,
        prefer=prefer,
        idempotency_key=idempotency_key,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    *,
    client: AuthenticatedClient | Client,
    body: CreateSegmentationFilesBody | File | Unset = UNSET,
    series_instance_uid: str | Unset = UNSET,
    resample: bool | Unset = UNSET,
    pixel_spacing_mm: float | Unset = UNSET,
    window_lower_hu: float | Unset = UNSET,
    window_upper_hu: float | Unset = UNSET,
    drop_liver_fragments: bool | Unset = UNSET,
    drop_distant_tumor: bool | Unset = UNSET,
    drop_small_lesions: bool | Unset = UNSET,
    drop_unlikely_lesions: bool | Unset = UNSET,
    priority: CreateSegmentationPriority | Unset = UNSET,
    deadline_s: float | Unset = UNSET,
    destination: str | Unset = UNSET,
    objects: str | Unset = UNSET,
    prefer: str | Unset = UNSET,
    idempotency_key: str | Unset = UNSET,
) -> Problem | SegmentationDocument | None:
    """Segment one CT series or image, durably

     Accepts what `/v1/segment` accepts, and keeps the result until it is deleted.

    What was accepted is finished, whatever happens to the service meanwhile. Files that fail the
    checks of container, limits, headers and geometry make no segmentation.

    Args:
        series_instance_uid (str | Unset): Which CT series; by default the axial one with most
            slices, then thinnest.
        resample (bool | Unset): Take a tilted or unevenly spaced axial series, which is refused
            otherwise. By default false.
        pixel_spacing_mm (float | Unset): Pixel side of images; DICOM and NIfTI know theirs.
        window_lower_hu (float | Unset): What grey 0 of an image stands for; with window_upper_hu.
        window_upper_hu (float | Unset): What grey 255 of an 8-bit image, 65535 of a 16-bit one,
            stands for; with window_lower_hu. 16-bit images need both.
        drop_liver_fragments (bool | Unset): Drop pieces of liver under 5 % of the largest, and
            all where that is under 1 mL, in volumes. By default true.
        drop_distant_tumor (bool | Unset): Drop tumour farther than 5 mm from the filled liver, in
            volumes. By default true.
        drop_small_lesions (bool | Unset): Drop lesions under the model's smallest size. By
            default true.
        drop_unlikely_lesions (bool | Unset): Drop lesions that the model's limits take for none:
            hardly surrounded by liver, of fluid, or no different from the liver around them. By
            default true.
        priority (CreateSegmentationPriority | Unset): `stat` comes before all `routine` ones that
            have not begun. By default "routine".
        deadline_s (float | Unset): Seconds from now after which the segmentation fails if it is
            not done.
        destination (str | Unset): Name of the PACS node of the settings that the objects are sent
            to.
        objects (str | Unset): Which objects, separated by commas; by default seg,sr,rtstruct. sr
            needs seg.
        prefer (str | Unset): `respond-async` answers at once, `wait=N` after at most N seconds
            (RFC 7240).
        idempotency_key (str | Unset): A repeat with the same key and body gets the first answer;
            with another body 409.
        body (CreateSegmentationFilesBody):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):
        body (File):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | SegmentationDocument
    """

    return (
        await asyncio_detailed(
            client=client,
            body=body,
            series_instance_uid=series_instance_uid,
            resample=resample,
            pixel_spacing_mm=pixel_spacing_mm,
            window_lower_hu=window_lower_hu,
            window_upper_hu=window_upper_hu,
            drop_liver_fragments=drop_liver_fragments,
            drop_distant_tumor=drop_distant_tumor,
            drop_small_lesions=drop_small_lesions,
            drop_unlikely_lesions=drop_unlikely_lesions,
            priority=priority,
            deadline_s=deadline_s,
            destination=destination,
            objects=objects,
            prefer=prefer,
            idempotency_key=idempotency_key,
        )
    ).parsed
