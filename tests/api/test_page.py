"""The page's files, from outside."""

import gzip
import http.client
import io
import zipfile
from pathlib import Path

import pytest
from fakes import FakeSegmenter
from fastapi.testclient import TestClient
from http_helpers import ZIP, listening, problem
from pydicom import dcmread

from service.api import page
from service.api.app import create_app
from service.settings import Settings

GZIP = {"Accept-Encoding": "gzip"}


def sent(
    port: int, method: str, path: str, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    """What a real server answers, byte for byte."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_the_page_is_at_the_root(client: TestClient) -> None:
    """HTML, with a policy that lets it load nothing of another host and run nothing inline."""
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "not for diagnosis" in answer.text.lower()
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "://" not in policy
    assert "*" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "camera=()" in answer.headers["permissions-policy"]


def test_every_file_has_a_media_type() -> None:
    """A file of another kind would be left out without a word."""
    kinds = {path.suffix for path in page.FOLDER.rglob("*") if path.is_file()}
    assert kinds <= set(page.MEDIA_TYPES)


def test_media_types(client: TestClient) -> None:
    """Browsers run modules and apply styles of the right type only."""
    for path in page.FOLDER.rglob("*"):
        if path.is_file():
            answer = client.get(f"/ui/{path.relative_to(page.FOLDER).as_posix()}")
            assert answer.headers["content-type"] == page.MEDIA_TYPES[path.suffix]
            assert answer.content == path.read_bytes()


def test_a_file_that_the_browser_has(client: TestClient) -> None:
    """It is asked for at each load and not sent again; one that has changed is."""
    first = client.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/", headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["cache-control"] == "no-cache"
    assert client.get("/", headers={"If-None-Match": 'W/"other"'}).status_code == 200


@pytest.mark.parametrize("accepted", ["gzip", "br, GZIP;q=0.5", "gzip; q=1.0"])
def test_compressed_where_the_browser_takes_it(client: TestClient, accepted: str) -> None:
    answer = client.get("/", headers={"Accept-Encoding": accepted})
    assert answer.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in answer.headers["vary"]


@pytest.mark.parametrize("accepted", ["identity", "gzip;q=0", "gzip; q=0.00", "x-gzips"])
def test_plain_where_it_does_not(client: TestClient, accepted: str) -> None:
    answer = client.get("/", headers={"Accept-Encoding": accepted})
    assert "content-encoding" not in answer.headers
    assert "Accept-Encoding" in answer.headers["vary"]


def test_head(settings: Settings, threshold: FakeSegmenter) -> None:
    """The headers of GET, compressed or not, and no body."""
    with listening(create_app(settings, lambda _: threshold)) as port:
        for encoding in ("gzip", "identity"):
            got, body = sent(port, "GET", "/", Accept_Encoding=encoding)
            head, nothing = sent(port, "HEAD", "/", Accept_Encoding=encoding)
            assert head.status == 200
            assert nothing == b""
            assert head.getheader("Content-Length") == str(len(body))
            for name in ("Content-Encoding", "Content-Type", "ETag", "Cache-Control", "Vary"):
                assert head.getheader(name) == got.getheader(name)
        whole = sent(port, "GET", "/", Accept_Encoding="identity")[1]
        assert gzip.decompress(sent(port, "GET", "/", Accept_Encoding="gzip")[1]) == whole


def test_no_path_leaves_the_folder(settings: Settings, threshold: FakeSegmenter) -> None:
    """Neither as it is written nor encoded; a folder is no file."""
    with listening(create_app(settings, lambda _: threshold)) as port:
        for path in ("", "nothing.js", "../api/page.py", "..%2fapi%2fpage.py", "%2e%2e/api/page.py",
                     "/etc/passwd", "%2fetc%2fpasswd", "vendor/../../api/page.py", "vendor",
                     "index.html%00", "..\\api\\page.py"):  # fmt: skip
            answer, body = sent(port, "GET", f"/ui/{path}")
            assert (path, answer.status) == (path, 404)
            assert b'"code":"not_found"' in body


def test_other_methods(client: TestClient) -> None:
    """They are refused, and told what is allowed."""
    refused = client.post("/ui/index.html")
    problem(refused, 405, "method_not_allowed")
    assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_a_result_is_never_kept_by_a_browser(client: TestClient) -> None:
    assert client.get("/v1/models").headers["cache-control"] == "no-store"
    assert client.get("/ui/nothing.js").headers["cache-control"] == "no-store"


def test_a_worker_has_no_page(settings: Settings, threshold: FakeSegmenter) -> None:
    """It takes no requests, so there is nothing to show."""
    with TestClient(create_app(settings, lambda _: threshold, "worker")) as worker:
        problem(worker.get("/"), 404, "not_found")
        problem(worker.get("/ui/app.js"), 404, "not_found")


def test_no_part_of_the_api(client: TestClient) -> None:
    assert not {"/", "/ui/{path}"} & set(client.get("/openapi.json").json()["paths"])


def test_sample(client: TestClient) -> None:
    """A phantom's CT, the same each time, in which the service finds lesions."""
    answer = client.get("/ui/sample.zip", headers=GZIP)
    assert answer.headers["content-type"] == "application/zip"
    assert "content-encoding" not in answer.headers
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        slices = [dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    assert len(slices) == page.SAMPLE_SLICES
    assert {(s.Modality, s.Rows, s.PatientID) for s in slices} == {
        ("CT", page.SAMPLE_SIZE, "PHANTOM-1")
    }
    assert answer.content == page.sample_zip()
    tag = answer.headers["etag"]
    assert client.get("/ui/sample.zip", headers={"If-None-Match": tag}).status_code == 304
    found = client.post("/v1/segment", content=answer.content, headers=ZIP).json()
    assert found["findings"]["tumor"]["lesion_count"] > 0


def test_reads_any_folder(tmp_path: Path) -> None:
    """Only what lies in it, by the address below it; other kinds of files are left out."""
    (tmp_path / "ui" / "deep").mkdir(parents=True)
    (tmp_path / "ui" / "deep" / "a.js").write_text("a")
    (tmp_path / "ui" / "a.swp").write_text("a")
    (tmp_path / "secret.js").write_text("s")
    read = page.Page.read(tmp_path / "ui")
    assert read.file("deep/a.js").content == b"a"
    for path in ("a.swp", "../secret.js", "deep"):
        with pytest.raises(page.NotFound):
            read.file(path)
