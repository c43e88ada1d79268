"""Callers without a key, with another's, with too little of one, or with a guess."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from fastapi import FastAPI
from fastapi.routing import APIRoute
from http_helpers import PNG, WAIT_S, slice_png
from security.harness import app, ask, serving

from service.access import keys as keys_module
from service.access.keys import Keys
from service.settings import Settings

URL = "/v1/segmentations"

OPEN = {
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/ui/{path:path}"),
    ("HEAD", "/ui/{path:path}"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/health/startup"),
    ("GET", "/openapi.json"),
    ("HEAD", "/openapi.json"),
}
"""All that answers somebody without a key; a route that is not written here has to ask for one."""

GUESSES = 5


@dataclass(frozen=True)
class Service:
    """A service that asks for keys, on a port."""

    application: FastAPI
    port: int
    keys: Keys

    def send(self, method: str, path: str, key: str = "", **options: object) -> requests.Response:
        headers = {"X-API-Key": key} if key else {}
        headers |= options.pop("headers", {})
        address = f"http://127.0.0.1:{self.port}{path}"
        return requests.request(method, address, headers=headers, timeout=WAIT_S, **options)

    def create(self, key: str, **headers: str) -> str:
        """The id of a segmentation that this key makes."""
        answer = self.send("POST", URL, key, data=slice_png(), headers=PNG | headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def routes(self) -> list[tuple[str, str]]:
        """Method and path of every route, documented or not."""
        found = [
            (method, str(route.path))
            for route in all_routes(self.application)
            for method in sorted(getattr(route, "methods", None) or ["GET"])
        ]
        assert len(found) > 20
        return found


def all_routes(application: FastAPI) -> Iterator[object]:
    """Those of the application, and of what is mounted or included in it."""
    waiting = list(application.routes)
    while waiting:
        route = waiting.pop()
        inner = getattr(route, "routes", None) or getattr(
            getattr(route, "original_router", None), "routes", None
        )
        assert inner or hasattr(route, "path")  # else there is another way to hold routes
        if inner:
            waiting += inner
        else:
            yield route


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("data")
    keys = Keys(Settings(data_dir=folder).registry_url)
    keys.create("first", ["admin"])
    application = app(folder, failed_keys_per_minute=GUESSES)
    with serving(application) as port:
        yield Service(application, port, keys)
    keys.close()


@pytest.fixture(autouse=True)
def forgotten(service: Service) -> None:
    """Each test begins without failures that others counted."""
    service.application.state.resources.gate._failures._full_at.clear()


@pytest.fixture(scope="module")
def owner(service: Service) -> str:
    return service.keys.create("owner", ["read", "write"])


@pytest.fixture(scope="module")
def other(service: Service) -> str:
    return service.keys.create("other", ["read", "write"])


def filled(path: str, job_id: str) -> str:
    """A route's path with this id, and something for whatever else it takes."""
    path = re.sub(r"\{(id|name)\}", job_id, path)
    return re.sub(r"\{[^}]*\}", "0", path)


def test_nothing_is_open_by_mistake(service: Service) -> None:
    """Every route but those listed above answers 401 to somebody without a key."""
    for method, path in service.routes():
        answer = service.send(method, filled(path, "0" * 32))
        if (method, path) in OPEN:
            assert answer.status_code in (200, 404, 503), (method, path)
        else:
            assert answer.status_code == 401, (method, path)
    assert set(service.routes()) >= OPEN


def test_a_new_route_is_closed(service: Service) -> None:
    """Whoever adds one need not think of keys."""

    def leak() -> str:
        return "secret"

    for path in ("/v1/new", "/healthz", "/uiadmin", "/openapi.json.bak", "/metricsx", "/debug"):
        service.application.router.routes.insert(0, APIRoute(path, leak))
        try:
            assert service.send("GET", path).status_code == 401
        finally:
            del service.application.router.routes[0]


@pytest.mark.parametrize(
    "path",
    [
        "/health/../v1/segmentations",
        "/health/%2e%2e/v1/segmentations",
        "/ui/../v1/segmentations",
        "/ui/..%2fv1%2fsegmentations",
        "/ui/%2e%2e/metrics",
        "//v1/segmentations",
        "/./v1/segmentations",
        "/v1/segmentations/",
        "/V1/segmentations",
        "/v1/segmentations;/health/",
        "/v1/segmentations%3f/health/",
        "/v1/segmentations%23",
        "/openapi.json/../v1/segmentations",
        "/openapi.json%00/v1/segmentations",
        "/\\v1\\segmentations",
        "/metrics/../health/live",
        "http://127.0.0.1/v1/segmentations",
        "/v1/segmentations#/health/live",
    ],
)
def test_closed_doors_under_other_names(service: Service, owner: str, path: str) -> None:
    """No other way to write an address opens what is behind it."""
    answer = ask(service.port, f"GET {path}")
    assert answer.status in (400, 401, 404)
    assert b'"items"' not in answer.body


@pytest.mark.parametrize(
    "header",
    [
        b"X-Original-URL: /health/live",
        b"X-Rewrite-URL: /health/live",
        b"X-Forwarded-Prefix: /health",
        b"X-Forwarded-User: admin",
        b"X-Remote-User: admin",
        b"X-Forwarded-For: 127.0.0.1",
        b"Forwarded: for=127.0.0.1;host=localhost",
        b"Cookie: key=admin; session=admin",
        b"Authorization: Basic YWRtaW46YWRtaW4=",
        b"Authorization: Bearer",
        b"Authorization: Bearer null",
        b"Authorization: Negotiate x",
        b"X-API-Key: ",
        b"X-API-Key: lts_' OR '1'='1",
        b"X-API-Key: lts_000000000000_" + b"A" * 43,
        b"X-API-Key: \xff\xfe",
        b"X-API-Key: " + b"A" * 60_000,
    ],
)
def test_headers_that_open_nothing(service: Service, header: bytes) -> None:
    """What proxies, browsers and other programs believe in is no key."""
    answer = ask(service.port, f"GET {URL}", header)
    assert (answer.status, answer.code) == (401, "unauthorized")


def test_a_key_in_the_address(service: Service, owner: str) -> None:
    """It would stand in logs and histories, so it counts for nothing."""
    for name in ("key", "api_key", "x-api-key", "access_token", "token"):
        assert service.send("GET", f"{URL}?{name}={owner}").status_code == 401


def test_another_key_s_segmentation(service: Service, owner: str, other: str) -> None:
    """By no route can another key see, stop or delete it, or learn that it is there."""
    made = service.create(owner)
    nobody_s = "0" * 32
    with_id = [(method, path) for method, path in service.routes() if "{id}" in path]
    assert {method for method, _ in with_id} >= {"GET", "POST", "DELETE"}
    for method, path in with_id:
        answers = [
            service.send(method, filled(path, job_id), other, headers={"X-Request-ID": "x"})
            for job_id in (made, nobody_s)
        ]
        assert [answer.status_code for answer in answers] == [404, 404], (method, path)
        assert answers[0].content == answers[1].content, (method, path)
    assert service.send("GET", f"{URL}/{made}", owner).json()["status"] == "succeeded"
    assert service.send("GET", f"{URL}/{made}/mask.nii.gz", owner).status_code == 200


def test_another_key_s_list(service: Service, owner: str, other: str) -> None:
    """No page of a list, of whatever status, names it, nor whether there is more."""
    made = service.create(owner)
    for query in ("", "?limit=1", "?offset=0&limit=200", "?status=succeeded", "?offset=1"):
        listed = service.send("GET", URL + query, other).json()
        assert made not in [item["id"] for item in listed["items"]]
        assert listed["next"] is None


def test_another_key_s_idempotency_key(service: Service, owner: str, other: str) -> None:
    """The same word of two callers is two words: neither gets the other's result, nor a 409."""
    mine = service.create(owner, **{"Idempotency-Key": "study-1"})
    theirs = service.create(other, **{"Idempotency-Key": "study-1"})
    body = {"data": slice_png(level=100), "headers": PNG | {"Idempotency-Key": "study-1"}}
    stranger = service.keys.create("stranger", ["write"])
    assert service.send("POST", URL, stranger, **body).status_code == 201
    assert len({mine, theirs}) == 2


@pytest.mark.parametrize(
    ("scopes", "refused"),
    [
        (["read"], lambda method: method not in ("GET", "HEAD")),
        (["write"], lambda method: method in ("GET", "HEAD")),
        ([], lambda _: True),
    ],
    ids=["read", "write", "none"],
)
def test_too_little_of_a_key(
    service: Service, scopes: list[str], refused: Callable[[str], bool]
) -> None:
    """On every route: what a key's scopes do not hold is refused before anything is looked at."""
    key = service.keys.create("some", scopes)
    for method, path in service.routes():
        if (method, path) not in OPEN and refused(method):
            answer = service.send(method, filled(path, "0" * 32), key)
            assert answer.status_code == 403, (method, path)


def test_keys_that_are_over(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """An expired and a revoked key are as good as none, also after they were good."""
    monkeypatch.setattr(keys_module, "FRESH_S", 0)
    short = service.keys.create("short", ["read"], lives_s=60)
    gone = service.keys.create("gone", ["read"])
    for key in (short, gone):
        assert service.send("GET", URL, key).status_code == 200
    service.keys.revoke(gone.split("_")[1])
    in_a_minute = keys_module._now_ms() + 60_000
    monkeypatch.setattr(keys_module, "_now_ms", lambda: in_a_minute)
    for key in (short, gone):
        assert service.send("GET", URL, key).status_code == 401


def test_guessing(service: Service, owner: str) -> None:
    """After a few wrong keys an address waits; whoever was let in before goes on."""
    assert service.send("GET", URL, owner).status_code == 200
    guesses = [f"lts_{owner.split('_')[1]}_{index:043d}" for index in range(GUESSES + 5)]
    answers = [service.send("GET", URL, guess) for guess in guesses]
    assert [answer.status_code for answer in answers] == [401] * GUESSES + [429] * 5
    assert int(answers[-1].headers["Retry-After"]) > 0
    fresh = service.keys.create("fresh", ["read"])
    near = f"lts_{fresh.split('_')[1]}_{'A' * 43}"
    for _ in range(GUESSES):
        service.send("GET", URL, near)
    problem = service.send("GET", URL, fresh)
    assert (problem.status_code, problem.json()["code"]) == (429, "too_many_keys")
    assert service.send("GET", URL, owner).status_code == 200
    assert service.send("GET", "/health/live").status_code == 200


def test_answers_to_guesses_are_the_same(service: Service, owner: str) -> None:
    """Whether the id of a key exists does not show."""
    headers = {"X-Request-ID": "x"}
    near = f"lts_{owner.split('_')[1]}_{'A' * 43}"
    answers = [
        service.send("GET", URL, key, headers=headers)
        for key in (near, f"lts_{'0' * 12}_{'A' * 43}", "x")
    ]
    assert len({answer.content for answer in answers}) == 1


def test_closed_while_the_database_is_away(service: Service, owner: str) -> None:
    """Until keys can be looked up nobody is let in, as if there were none."""
    held = service.application.state.resources
    gate, held.gate = held.gate, None
    try:
        for key in ("", owner):
            answer = service.send("GET", URL, key)
            assert (answer.status_code, answer.json()["code"]) == (503, "model_not_ready")
    finally:
        held.gate = gate


def test_keys_are_on_no_disk(service: Service, owner: str, tmp_path: Path) -> None:
    """Nor are they in any file of the service, in whatever part."""
    secret = owner.split("_", 2)[2].encode()
    folder = service.application.state.resources.settings.data_dir
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name.startswith("jobs.sqlite") for path in files)
    for path in files:
        with suppress(FileNotFoundError):
            assert secret not in path.read_bytes(), path.name
    assert folder.stat().st_mode & 0o777 == 0o700
