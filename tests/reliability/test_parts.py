"""The real servers of `reliability.parts` start, fail on command, and keep what they hold."""

import http.client
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import obstore
import psycopg
import pytest
from obstore.exceptions import AlreadyExistsError, GenericError
from obstore.store import S3Store, from_url

from reliability.parts import nginx, postgres, s3
from reliability.parts.nginx import Nginx
from reliability.parts.postgres import Postgres
from reliability.parts.s3 import S3

IMPATIENT = {"max_retries": 2, "retry_timeout": timedelta(seconds=0.5)}
GIVES_UP_S = 5


def require(reason: str | None) -> None:
    """Fail in CI, and skip elsewhere, where something is not installed."""
    if reason is None:
        return
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def listeners(port: int) -> set[str]:
    """The addresses, as the kernel writes them, on which somebody listens on this port."""
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in (Path("/proc/net") / table).read_text().splitlines()[1:]
    ]
    places = [words[1].split(":") for words in lines if words[3] == "0A"]
    return {address for address, number in places if int(number, 16) == port}


LOOPBACK_ONLY = {"0100007F"}


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    require(postgres.missing())
    with Postgres.start(max_connections=20) as running:
        yield running


def ask(database: Postgres, query: str, *values: object) -> list:
    with psycopg.connect(database.url) as connection:
        found = connection.execute(query, values)
        return found.fetchall() if found.description else []


@pytest.mark.postgres
def test_the_database_is_as_in_a_hospital(database) -> None:
    """It writes through to the disk, listens on loopback, and its user is no superuser."""
    assert ask(database, "SHOW fsync") == [("on",)]
    assert ask(database, "SHOW max_connections") == [("20",)]
    assert ask(database, "SELECT rolsuper FROM pg_roles WHERE rolname = 'lts'") == [(False,)]
    assert listeners(database.port) == LOOPBACK_ONLY
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(database.url.replace(database.password, "another"))


@pytest.mark.postgres
@pytest.mark.parametrize(
    "end",
    [Postgres.stop, lambda database: database.stop("immediate"), Postgres.kill],
    ids=["stop", "immediate", "kill"],
)
def test_committed_rows_survive(database, end) -> None:
    """What was committed is there after every kind of end; what was not is not."""
    ask(database, "CREATE TABLE IF NOT EXISTS kept (way text)")
    before = len(ask(database, "SELECT * FROM kept"))
    ask(database, "INSERT INTO kept VALUES (%s)", "committed")
    with psycopg.connect(database.url) as open_one:
        open_one.execute("INSERT INTO kept VALUES ('never committed')")
        end(database)
        assert not database.is_running
        with pytest.raises(psycopg.OperationalError):
            open_one.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(database.url)
    database.start_again()
    assert ask(database, "SELECT * FROM kept") == [("committed",)] * (before + 1)


@pytest.mark.postgres
def test_restart_ends_connections_and_keeps_the_address(database) -> None:
    """After a restart the same address answers, and an old connection is dead."""
    address = database.url
    with psycopg.connect(address) as old:
        database.restart()
        with pytest.raises(psycopg.OperationalError):
            old.execute("SELECT 1")
    assert database.url == address
    assert ask(database, "SELECT 1") == [(1,)]


@pytest.mark.postgres
def test_a_kill_leaves_no_process(database) -> None:
    """The backends and helpers of a killed postmaster are gone with it."""
    pids = [pid for (pid,) in ask(database, "SELECT pid FROM pg_stat_activity")]
    assert len(pids) > 3
    database.kill()
    assert not [pid for pid in pids if b"postgres" in command_of(pid)]
    database.start_again()


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.postgres
def test_a_database_that_cannot_start_says_why(database) -> None:
    """A setting that PostgreSQL does not know ends the start at once, with its own words."""
    database.stop()
    good, database.settings = database.settings, {"no_such_setting": 1}
    try:
        with pytest.raises(RuntimeError, match="no_such_setting"):
            database.start_again()
    finally:
        database.settings = good
        database.start_again()


@pytest.mark.postgres
@pytest.mark.skipif(os.getuid() != 0, reason="only root's server runs as another user")
def test_a_closed_folder_is_refused(tmp_path) -> None:
    """Root learns before the start that the database's user cannot reach the folder."""
    require(postgres.missing())
    tmp_path.chmod(0o700)
    with pytest.raises(PermissionError, match="closed"), Postgres.start(tmp_path / "inside"):
        pass


def test_what_is_missing_is_named(monkeypatch) -> None:
    """Without the programs, the reason names Debian's packages, and a start raises it."""
    monkeypatch.setattr(postgres, "find", lambda: None)
    monkeypatch.setattr(nginx, "find", lambda: None)
    monkeypatch.setattr(s3.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="Debian: postgresql"), Postgres.start():
        pass
    with pytest.raises(FileNotFoundError, match="nginx-light"), Nginx.start([]):
        pass
    with pytest.raises(ModuleNotFoundError, match="moto"), S3.start():
        pass


@pytest.fixture(scope="module")
def bucket() -> Iterator[S3]:
    require(s3.missing())
    with S3.start() as running:
        yield running


@pytest.fixture
def store(bucket) -> S3Store:
    """One that gives up soon."""
    options = bucket.options(connect_timeout="1s", read_timeout="1s")
    return from_url(bucket.url, **options, retry_config=IMPATIENT)


def get(store: S3Store, key: str) -> bytes:
    return bytes(obstore.get(store, key).bytes())


def test_the_bucket_holds_objects(bucket, store) -> None:
    """Objects are written, read whole and in parts, listed and deleted."""
    obstore.put(store, "one/a", b"hello")
    obstore.put(store, "two/b", b"there")
    assert get(store, "one/a") == b"hello"
    assert bytes(obstore.get_range(store, "one/a", start=1, length=3)) == b"ell"
    assert [item["path"] for batch in obstore.list(store, "one") for item in batch] == ["one/a"]
    assert {"one", "two"} <= set(obstore.list_with_delimiter(store)["common_prefixes"])
    obstore.delete(store, "one/a")
    obstore.delete(store, "one/a")  # S3 does not say whether there was one
    with pytest.raises(FileNotFoundError):
        obstore.get(store, "one/a")
    assert listeners(bucket.proxy.port) == LOOPBACK_ONLY


def test_the_environment_is_enough(bucket, monkeypatch) -> None:
    """A process with this environment needs the address of the bucket and nothing else."""
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    obstore.put(from_url(bucket.url), "environment", b"read")
    assert get(from_url(bucket.url), "environment") == b"read"


def test_an_upload_in_parts(store) -> None:
    """An iterator of large chunks becomes one object."""
    obstore.put(store, "parts", (bytes([number]) * 12_000_000 for number in range(2)))
    assert obstore.head(store, "parts")["size"] == 24_000_000
    assert bytes(obstore.get_range(store, "parts", start=11_999_999, length=2)) == b"\x00\x01"


def test_an_object_is_created_once(bucket) -> None:
    """Of clients that create the same object at once, one succeeds, and its bytes are kept."""
    patient = from_url(bucket.url, **bucket.options())
    for size in (1_000, 6_000_000, 6_000_000):
        key, barrier = f"once/{time.monotonic_ns()}", threading.Barrier(6)

        def create(number: int, key=key, barrier=barrier, size=size) -> int | None:
            barrier.wait()
            try:
                obstore.put(patient, key, bytes([number]) * size, mode="create")
            except AlreadyExistsError:
                return None
            return number

        with ThreadPoolExecutor(6) as pool:
            winners = [number for number in pool.map(create, range(6)) if number is not None]
        assert [get(patient, key)[0]] == winners


@pytest.mark.parametrize("how", ["refuses", "hangs", "loses answers"])
def test_a_lost_bucket_keeps_its_content(bucket, store, how) -> None:
    """While it is lost every call fails within seconds; afterwards all is there."""
    obstore.put(store, "kept", b"content")
    with bucket.unreachable(how=how):
        started = time.monotonic()
        with pytest.raises(GenericError):
            obstore.get(store, "kept")
        with pytest.raises(GenericError):
            obstore.put(store, f"lost {how}", b"work")
        assert time.monotonic() - started < 2 * GIVES_UP_S
    assert get(store, "kept") == b"content"
    if how == "loses answers":
        assert get(store, f"lost {how}") == b"work"


def test_the_bucket_comes_back_by_itself(bucket) -> None:
    """A client that tries for long enough does not notice."""
    patient = from_url(bucket.url, **bucket.options())
    with bucket.unreachable(0.5):
        obstore.put(patient, "late", b"but there")
        assert get(patient, "late") == b"but there"


def test_a_lost_answer_looks_like_another_creator(bucket) -> None:
    """A create whose answer is lost is tried again by the client, and then finds its own object."""
    patient = from_url(bucket.url, **bucket.options())
    with bucket.unreachable(0.4, "loses answers"), pytest.raises(AlreadyExistsError):
        obstore.put(patient, "own", b"mine", mode="create")
    assert get(patient, "own") == b"mine"


class Replica(ThreadingHTTPServer):
    """Stands for the service: says who it is, is full where it is told to, and notes requests."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = name
        self.full = False
        self.seen: list[tuple[str, http.client.HTTPMessage]] = []
        self.first_bytes, self.go_on = threading.Event(), threading.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.seen.append((self.command, self.headers))
        if self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"data: first\n\n")
            self.server.go_on.wait(GIVES_UP_S)
            self.wfile.write(b"data: second\n\n")
            return
        body = self.server.name.encode()
        self.send_response(503 if self.server.full else 200)
        self.send_header("Content-Length", str(len(body)))
        if self.server.full:
            self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        left = int(self.headers["Content-Length"])
        while left and (data := self.rfile.read1(min(left, 65536))):
            self.server.first_bytes.set()
            left -= len(data)
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def replicas(*names: str) -> Iterator[list[Replica]]:
    with ExitStack() as stack:
        made = [stack.enter_context(Replica(name)) for name in names]
        for replica in made:
            thread = threading.Thread(target=replica.serve_forever, args=(0.02,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(replica.shutdown)
        yield made


@pytest.fixture
def pair() -> Iterator[tuple[Nginx, list[Replica]]]:
    """A balancer over two replicas."""
    require(nginx.missing())
    with (
        replicas("one", "two") as both,
        Nginx.start([replica.address for replica in both]) as balancer,
    ):
        yield balancer, both


def through(balancer: Nginx, method: str = "GET") -> tuple[int, bytes, str | None]:
    """Status, body and Retry-After; a POST has a body."""
    connection = http.client.HTTPConnection("127.0.0.1", balancer.port, timeout=GIVES_UP_S)
    body = b"body" if method == "POST" else None
    try:
        connection.request(method, "/", body, {"X-Forwarded-For": "192.0.2.1"})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers["Retry-After"]
    finally:
        connection.close()


def test_requests_are_shared(pair) -> None:
    """Both replicas get some, and learn the sender from nginx and not from the sender."""
    balancer, both = pair
    assert {through(balancer)[1] for _ in range(20)} == {b"one", b"two"}
    senders = {headers["X-Forwarded-For"] for one in both for _, headers in one.seen}
    assert senders == {"127.0.0.1"}
    assert listeners(balancer.port) == LOOPBACK_ONLY


def test_a_dead_replica_is_not_noticed() -> None:
    """Nothing listens on one address: GET and POST are answered by the other."""
    require(nginx.missing())
    with replicas("gone") as (gone,):
        nobody = gone.address
    with replicas("here") as (here,), Nginx.start([nobody, here.address]) as balancer:
        answers = {through(balancer, how) for how in ("GET", "POST") * 5}
    assert answers == {(200, b"here", None)}


def test_a_full_replica_passes_on_what_may_be_repeated(pair) -> None:
    """A GET goes to the other one; a POST is sent once, and its client told when to come back."""
    balancer, (one, two) = pair
    one.full = True
    assert {through(balancer)[:2] for _ in range(6)} == {(200, b"two")}
    posts = [through(balancer, "POST") for _ in range(8)]
    assert set(posts) == {(503, b"one", "7"), (200, b"two", None)}
    assert len([0 for replica in (one, two) for how, _ in replica.seen if how == "POST"]) == 8


def test_when_all_are_full_the_client_learns_it(pair) -> None:
    """It gets the service's 503 with its Retry-After each time, and no 502 of nginx."""
    balancer, both = pair
    for replica in both:
        replica.full = True
    answers = [through(balancer, how) for how in ("GET", "POST") * 4]
    assert {(status, retry) for status, _, retry in answers} == {(503, "7")}


def test_events_pass_at_once(pair) -> None:
    """The first event arrives while the replica has not sent the second."""
    balancer, both = pair
    connection = http.client.HTTPConnection("127.0.0.1", balancer.port, timeout=GIVES_UP_S)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert answer.readline() == b"data: first\n"
    for replica in both:
        replica.go_on.set()
    assert answer.read() == b"\ndata: second\n\n"
    connection.close()


def test_a_large_body_passes_at_once(pair) -> None:
    """The replica reads a body whose end the client has not sent, and nothing is kept on disk."""
    balancer, both = pair
    part = b"x" * 8_000_000
    connection = http.client.HTTPConnection("127.0.0.1", balancer.port, timeout=GIVES_UP_S)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(2 * len(part)))
    connection.endheaders(part)
    assert any(replica.first_bytes.wait(GIVES_UP_S / 2) for replica in both)
    connection.send(part)
    assert connection.getresponse().status == 200
    connection.close()
    assert not [path for path in balancer.folder.glob("temp-*/**/*") if path.is_file()]


def test_other_replicas_take_over(pair) -> None:
    """After a change of addresses only the new replica gets requests; who waits is not cut off."""
    balancer, both = pair
    waiting = http.client.HTTPConnection("127.0.0.1", balancer.port, timeout=GIVES_UP_S)
    waiting.request("GET", "/events")
    with replicas("three") as (three,):
        balancer.balance([three.address])
        assert {through(balancer)[1] for _ in range(6)} == {b"three"}
    for replica in both:
        replica.go_on.set()
    assert b"second" in waiting.getresponse().read()
    waiting.close()
