"""Keys at the service's door: who may ask what, and whose segmentations are whose."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeSegmenter, by_threshold
from fastapi.testclient import TestClient
from http_helpers import PNG, problem, running, slice_png

from service.access.keys import Keys
from service.api.access import is_open
from service.settings import Settings

URL = "/v1/segmentations"


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    opened = Keys(Settings(data_dir=tmp_path).registry_url)
    yield opened
    opened.close()


@pytest.fixture
def client(tmp_path: Path, keys: Keys) -> Iterator[TestClient]:
    """A service that asks for keys, since one was made."""
    keys.create("first", ["admin"])
    with running(tmp_path, FakeSegmenter(by_threshold)) as started:
        yield started


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def create(client: TestClient, key: str, **headers: str) -> str:
    """The id of a segmentation that this key made."""
    sent = {**PNG, **bearer(key), **headers}
    answer = client.post(URL, content=slice_png(), headers=sent)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def test_without_a_key(client: TestClient) -> None:
    """401 in the form of all problems, and how to ask; health and page are open."""
    answer = client.get(URL)
    problem(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    problem(client.post("/v1/segment", content=slice_png(), headers=PNG), 401, "unauthorized")
    problem(client.get("/v1/nothing"), 401, "unauthorized")
    problem(client.get("/metrics"), 401, "unauthorized")
    for path in ("/health/live", "/health/ready", "/", "/ui/app.js", "/openapi.json"):
        assert client.get(path).status_code == 200, path


def test_a_refused_body_is_not_read(client: TestClient) -> None:
    """The connection is closed: what is left on it is no request."""
    answer = client.post("/v1/segment", content=slice_png(), headers=PNG)
    assert answer.headers["Connection"] == "close"


def test_the_contract_says_what_is_open(client: TestClient) -> None:
    """Each operation but those that nobody is asked for names both ways to send a key."""
    document = client.get("/openapi.json").json()
    assert document["security"] == [{}, {"bearer": []}, {"key": []}]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
    for path, item in document["paths"].items():
        for operation in item.values():
            assert (operation.get("security") == []) == is_open(path)
            assert ("401" in operation["responses"]) != is_open(path)


def test_what_a_key_made_is_its_own(client: TestClient, keys: Keys) -> None:
    """To another it is not there, an admin sees it; lists and repeats go by owner, too."""
    one, other, admin = (
        keys.create("one", ["read", "write"]),
        keys.create("other", ["read", "write"]),
        keys.create("admin", ["admin"]),
    )
    made = create(client, one, **{"Idempotency-Key": "study-1"})
    others = create(client, other, **{"Idempotency-Key": "study-1"})
    assert made != others
    assert create(client, one, **{"Idempotency-Key": "study-1"}) == made

    def listed(key: str) -> list[str]:
        return [item["id"] for item in client.get(URL, headers=bearer(key)).json()["items"]]

    assert listed(one) == [made]
    assert listed(other) == [others]
    assert listed(admin) == [others, made]
    problem(client.get(f"{URL}/{made}", headers=bearer(other)), 404, "not_found")
    assert client.get(f"{URL}/{made}", headers=bearer(admin)).status_code == 200
    problem(client.delete(f"{URL}/{made}", headers=bearer(other)), 404, "not_found")
    assert client.delete(f"{URL}/{made}", headers=bearer(admin)).status_code == 204
    problem(client.get(f"{URL}/{made}", headers=bearer(one)), 404, "not_found")


def test_made_before_there_were_keys(tmp_path: Path, keys: Keys) -> None:
    """What nobody owns only an admin sees."""
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        answer = client.post(URL, content=slice_png(), headers=PNG)
        assert answer.status_code == 201
        made = answer.json()["id"]
    one, admin = keys.create("one", ["read", "write"]), keys.create("admin", ["admin"])
    with running(tmp_path, FakeSegmenter(by_threshold)) as client:
        problem(client.get(f"{URL}/{made}", headers=bearer(one)), 404, "not_found")
        assert client.get(f"{URL}/{made}", headers=bearer(admin)).status_code == 200


def test_scopes(client: TestClient, keys: Keys) -> None:
    """`read` gets, `write` posts and deletes, and neither does what only the other may."""
    read, write = keys.create("reader", ["read"]), keys.create("writer", ["write"])
    made = create(client, write)
    problem(client.get(f"{URL}/{made}", headers=bearer(write)), 403, "forbidden")
    assert client.get("/v1/models", headers=bearer(read)).status_code == 200
    assert client.get("/metrics", headers=bearer(read)).status_code == 200
    for answer in (
        client.post("/v1/segment", content=slice_png(), headers={**PNG, **bearer(read)}),
        client.post(URL, content=slice_png(), headers={**PNG, **bearer(read)}),
        client.post(f"{URL}/{made}/cancel", headers=bearer(read)),
        client.delete(f"{URL}/{made}", headers=bearer(read)),
    ):
        problem(answer, 403, "forbidden")
    assert client.delete(f"{URL}/{made}", headers=bearer(write)).status_code == 204


def test_a_key_s_own_rate(client: TestClient, keys: Keys) -> None:
    """Requests for work count for the key, not for the address."""
    slow = keys.create("slow", ["read", "write"], rate_per_minute=2)
    other = keys.create("other", ["read", "write"])
    create(client, slow)
    create(client, slow)
    answer = client.post(URL, content=slice_png(), headers={**PNG, **bearer(slow)})
    problem(answer, 429, "too_many_requests")
    assert int(answer.headers["Retry-After"]) <= 30
    create(client, other)
    assert client.get(URL, headers=bearer(slow)).status_code == 200


def test_open_metrics(tmp_path: Path, keys: Keys) -> None:
    """Where the settings say so, Prometheus needs no key."""
    keys.create("first", ["admin"])
    with running(tmp_path, FakeSegmenter(by_threshold), open_metrics=True) as client:
        assert client.get("/metrics").status_code == 200
        problem(client.get("/v1/models"), 401, "unauthorized")


def test_pages_of_other_sites(tmp_path: Path) -> None:
    """Without keys they are refused, but for those of the settings, which may read the answers."""
    settings = {"allowed_origins": "https://viewer.example", "allowed_hosts": "ct.example"}
    with running(tmp_path, FakeSegmenter(by_threshold), **settings) as client:
        problem(client.get(URL), 403, "foreign_host")
        there = {"Host": "ct.example"}
        evil = {**there, "Origin": "https://evil.example"}
        problem(client.get(URL, headers=evil), 403, "foreign_origin")
        answer = client.get(URL, headers={**there, "Origin": "https://viewer.example"})
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "https://viewer.example"
        asked = {
            **there,
            "Origin": "https://viewer.example",
            "Access-Control-Request-Method": "DELETE",
            "Access-Control-Request-Headers": "x-api-key,idempotency-key",
        }
        assert client.options(f"{URL}/x", headers=asked).status_code == 200
        refused = client.options(URL, headers={**asked, "Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in refused.headers


def test_headers_of_every_answer(client: TestClient) -> None:
    """Nothing in an answer is run, framed, sniffed or kept, also where it is a problem."""
    for answer in (client.get("/health/live"), client.get(URL), client.get("/nothing")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Strict-Transport-Security" not in answer.headers
    assert "script-src 'self'" in client.get("/").headers["Content-Security-Policy"]


def test_the_log_names_the_key_and_never_holds_it(
    client: TestClient, keys: Keys, logged: io.StringIO
) -> None:
    """By its id an operator finds who asked."""
    text = keys.create("one", ["read", "write"])
    create(client, text)
    client.get(URL, headers=bearer(text[:-1]))
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    asked = [line for line in lines if line["event"] == "request" and line["method"] == "POST"]
    assert asked[0]["key"] == f"key:{text.split('_')[1]}"
    assert text.split("_", 2)[2][:10] not in logged.getvalue()
