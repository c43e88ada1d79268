from http import HTTPStatus
from typing import Any

import httpx

from ... import errors
from ...client import AuthenticatedClient, Client
from ...models.problem import Problem
from ...models.segmentation_document import SegmentationDocument
from ...models.series_parameters import SeriesParameters
from ...types import UNSET, Response, Unset


def _get_kwargs(
    *,
    body: SeriesParameters,
    prefer: str | Unset = UNSET,
    idempotency_key: str | Unset = UNSET,
) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    if not isinstance(prefer, Unset):
        headers["Prefer"] = prefer

    if not isinstance(idempotency_key, Unset):
        headers["Idempotency-Key"] = idempotency_key

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/v1/segmentations/dicomweb",
    }

    _kwargs["json"] = body.to_dict()

    headers["Content-Type"] = "application/json"

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

    if response.status_code == 502:
        response_502 = Problem.from_dict(response.json())

        return response_502

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
    body: SeriesParameters,
    prefer: str | Unset = UNSET,
    idempotency_key: str | Unset = UNSET,
) -> Response[Problem | SegmentationDocument]:
    """Segment a series of a PACS, durably, and store the objects there

     Fetches the series from the origin by QIDO-RS and WADO-RS, and sends the objects back.

    Origins and destinations are named in the service's settings; a request never carries an
    address. Each step is tried again where that helps, and is safe to repeat: the same series gives
    the same UIDs. What a destination refuses is in `delivery`; the segmentation succeeds all the
    same.

    Args:
        prefer (str | Unset): `respond-async` answers at once, `wait=N` after at most N seconds
            (RFC 7240).
        idempotency_key (str | Unset): A repeat with the same key and body gets the first answer;
            with another body 409.
        body (SeriesParameters): The body of `POST /v1/segmentations/dicomweb`: a series of a
            PACS, and what goes back.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | SegmentationDocument]
    """

    kwargs = _get_kwargs(
        body=body,
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
    body: SeriesParameters,
    prefer: str | Unset = UNSET,
    idempotency_key: str | Unset = UNSET,
) -> Problem | SegmentationDocument | None:
    """Segment a series of a PACS, durably, and store the objects there

     Fetches the series from the origin by QIDO-RS and WADO-RS, and sends the objects back.

    Origins and destinations are named in the service's settings; a request never carries an
    address. Each step is tried again where that helps, and is safe to repeat: the same series gives
    the same UIDs. What a destination refuses is in `delivery`; the segmentation succeeds all the
    same.

    Args:
        prefer (str | Unset): `respond-async` answers at once, `wait=N` after at most N seconds
            (RFC 7240).
        idempotency_key (str | Unset): A repeat with the same key and body gets the first answer;
            with another body 409.
        body (SeriesParameters): The body of `POST /v1/segmentations/dicomweb`: a series of a
            PACS, and what goes back.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | SegmentationDocument
    """

    return sync_detailed(
        client=client,
        body=body,
        prefer=prefer,
        idempotency_key=idempotency_key,
    ).parsed


async def asyncio_detailed(
    *,
    client: AuthenticatedClient | Client,
    body: SeriesParameters,
    prefer: str | Unset = UNSET,
    idempotency_key: str | Unset = UNSET,
) -> Response[Problem | SegmentationDocument]:
    """Segment a series of a PACS, durably, and store the objects there

     Fetches the series from the origin by QIDO-RS and WADO-RS, and sends the objects back.

    Origins and destinations are named in the service's settings; a request never carries an
    address. Each step is tried again where that helps, and is safe to repeat: the same series gives
    the same UIDs. What a destination refuses is in `delivery`; the segmentation succeeds all the
    same.

    Args:
        prefer (str | Unset): `respond-async` answers at once, `wait=N` after at most N seconds
            (RFC 7240).
        idempotency_key (str | Unset): A repeat with the same key and body gets the first answer;
            with another body 409.
        body (SeriesParameters): The body of `POST /v1/segmentations/dicomweb`: a series of a
            PACS, and what goes back.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | SegmentationDocument]
    """

    kwargs = _get_kwargs(
        body=body,
        prefer=prefer,
        idempotency_key=idempotency_key,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    *,
    client: AuthenticatedClient | Client,
    body: SeriesParameters,
    prefer: str | Unset = UNSET,
    idempotency_key: str | Unset = UNSET,
) -> Problem | SegmentationDocument | None:
    """Segment a series of a PACS, durably, and store the objects there

     Fetches the series from the origin by QIDO-RS and WADO-RS, and sends the objects back.

    Origins and destinations are named in the service's settings; a request never carries an
    address. Each step is tried again where that helps, and is safe to repeat: the same series gives
    the same UIDs. What a destination refuses is in `delivery`; the segmentation succeeds all the
    same.

    Args:
        prefer (str | Unset): `respond-async` answers at once, `wait=N` after at most N seconds
            (RFC 7240).
        idempotency_key (str | Unset): A repeat with the same key and body gets the first answer;
            with another body 409.
        body (SeriesParameters): The body of `POST /v1/segmentations/dicomweb`: a series of a
            PACS, and what goes back.

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
            prefer=prefer,
            idempotency_key=idempotency_key,
        )
    ).parsed
