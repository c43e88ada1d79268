"""`make soak` fails when it should, and its clients count what they do."""

import json
import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.soak.report import LEFT, Kind, Report
from reliability.growth import LONG_S, Footprint, growth, minutes_of
from reliability.settled import left, miscounted, requests_by_status
from reliability.soak import FINISH_S, LOG, WARM_UP_S, Seen, clients, reported, unfit

STEADY = Footprint(500, 30, 40)
CALM_S = [(second, 0.004) for second in range(200)]


def loaded(seconds: int, grown: str, by: float) -> list[Footprint]:
    """A process that jitters and, in the end, holds so much more than in the beginning."""
    rng = random.Random(1)
    return [
        Footprint(**{
            **vars(STEADY), "resident_mb": 500 + rng.uniform(-5, 5),
            grown: getattr(STEADY, grown) + by * second / seconds,
        })
        for second in range(seconds)
    ]  # fmt: skip


@pytest.mark.parametrize("seconds", [60, 1800])
@pytest.mark.parametrize(("grown", "by"), [("resident_mb", 200), ("threads", 40), ("files", 40)])
def test_growth_is_seen(seconds: int, grown: str, by: float) -> None:
    """A process that holds more and more fails, in a short load and in a long one."""
    assert list(growth(loaded(seconds, grown, 0)).wrong()) == []
    (sentence,) = growth(loaded(seconds, grown, by)).wrong()
    assert sentence.startswith(f"{grown} grew from ")


@pytest.mark.parametrize(("more_mb", "wrong"), [(29, 0), (31, 1)])
def test_the_bound_of_a_long_load(more_mb: float, wrong: int) -> None:
    """The last minute may hold 2 % and 20 MB more than the tenth: of 500 MB that is 30."""
    later = Footprint(500 + more_mb, 30, 40)
    samples = [STEADY] * 600 + [later] * (LONG_S - 599)
    assert len(list(growth(samples).wrong())) == wrong


def test_one_volume_does_not_decide() -> None:
    """What is held for less than half a minute is not what is held at that moment."""
    volume = Footprint(900, 30, 40)
    assert list(growth([STEADY] * 1780 + [volume] * 20).wrong()) == []


def test_a_line_for_each_minute() -> None:
    """Each whole minute has its own median; a shorter load has one of all of it."""
    samples = [STEADY] * 60 + [Footprint(600, 31, 41)] * 61
    assert [item.resident_mb for item in minutes_of(samples)] == [500, 600]
    assert minutes_of(samples[:20]) == [STEADY]


def test_miscounts_are_seen() -> None:
    """Each answer was counted with its status, and each client that left with some status."""
    answered = Counter({"200": 10, "404": 2})
    assert list(miscounted(Counter({"200": 11, "404": 2, "499": 1}), answered, 2)) == []
    lost = list(miscounted(Counter({"200": 10, "404": 1, "499": 3}), answered, 2))
    assert lost == ["1 requests are counted with 404, 2 were answered"]
    twice = list(miscounted(Counter({"200": 13, "404": 2}), answered, 2))
    assert twice == ["15 requests are counted, 14 were sent"]


METRICS = """# TYPE lts_requests_total counter
lts_requests_total{method="GET",route="/metrics",status="200"} 3.0
lts_requests_total{method="GET",route="/v1/segmentations/{id}",status="404"} 2.0
lts_jobs_in_work 0.0
lts_admitted_requests 0.0
lts_batch_slices_sum 30.0
lts_batch_slices_count 20.0
"""


def server_with(metrics: str, *jobs: object) -> SimpleNamespace:
    """A service that says this of itself."""
    answers = {"/metrics": metrics, "/v1/segmentations": json.dumps({"items": jobs})}

    def ask(_: str, path: str) -> SimpleNamespace:
        body = answers[path].encode()
        return SimpleNamespace(body=body, json=lambda: json.loads(body))

    return SimpleNamespace(ask=ask)


def what_is_left(folder: Path, metrics: str, *jobs: object) -> list[str]:
    """After a load of three answers of 200 and two of 404."""
    for name in ("segmentations", "uploads"):
        (folder / name).mkdir(exist_ok=True)
    return list(left(server_with(metrics, *jobs), folder, Counter({"200": 3, "404": 2}), 0))


def test_the_service_counts_the_one_who_asks() -> None:
    """Its answer says nothing of itself."""
    assert requests_by_status(server_with(METRICS)) == {"200": 4, "404": 2}


def test_what_is_left_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work, admitted requests, segmentations, files, and batches of single slices."""
    monkeypatch.setattr("reliability.settled.QUIET_S", 0)
    assert what_is_left(tmp_path, METRICS) == []
    for name in ("lts_jobs_in_work", "lts_admitted_requests"):
        busy = METRICS.replace(f"{name} 0.0", f"{name} 1.0")
        assert what_is_left(tmp_path, busy) == [f"{name} is 1"]
    alone = METRICS.replace("sum 30.0", "sum 20.0")
    assert "none was shared" in what_is_left(tmp_path, alone)[0]
    assert what_is_left(tmp_path, METRICS, {}) == ["1 segmentations are left"]
    (tmp_path / "uploads" / "body").touch()
    assert what_is_left(tmp_path, METRICS) == ["files are left: ['body']"]


def seen_with(
    rounds: int = 1, health: list[tuple[float, float]] = CALM_S, wrong: tuple[str, ...] = ()
) -> Seen:
    """A load of 200 s."""
    kinds = (Kind("POST picture", 5, 1, 2, 3), Kind(f"POST {LEFT}", 4, 1, 2, 3))
    report = Report(0, 200, kinds, {"200": 5}, {"Pictures": rounds}, wrong)
    return Seen(STEADY, report, health, [(second, STEADY) for second in range(250)])


def test_unfit_loads_are_seen() -> None:
    """Clients that never came to an end, health that is slow, and health that is silent."""
    assert list(unfit(seen_with())) == []
    assert list(unfit(seen_with(rounds=0))) == ["clients that never came to an end: Pictures"]
    slow = CALM_S[:190] + [(second, 0.2) for second in range(190, 200)]
    assert list(unfit(seen_with(health=slow))) == ["health answered within 200 ms (p99)"]
    assert list(unfit(seen_with(health=[*CALM_S, (1, math.inf)]))) == [
        "health gave no answer 1 times"
    ]


def test_only_the_load_is_judged() -> None:
    """Footprints begin after the warm-up, and both end when the clients are told to stop."""
    seen = seen_with(health=[*CALM_S, (201, 9.0)])
    assert len(seen.samples) == 201 - WARM_UP_S
    assert max(seen.health_s) < 1


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    """And says how many clients left."""
    report = seen_with(wrong=("a", "b")).report
    report.write(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == report
    assert report.unanswered == 4


class Fake(BaseHTTPRequestHandler):
    """Answers whatever the test's function makes of the request's number."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        number = next(self.server.numbers)
        status, document = self.server.answer(number)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def fake_service(answer: Callable[[int], tuple[int, object]]) -> Iterator[ThreadingHTTPServer]:
    """On loopback, in this process."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Fake) as server:
        server.answer, server.numbers = answer, count()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def report_of(
    folder: Path, classes: str, answer: Callable[[int], tuple[int, object]]
) -> tuple[Report, int]:
    """What these clients say of a service that answers so, and how many requests it had."""
    with fake_service(answer) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        with clients(address, 2, folder, classes) as process:
            process.wait(FINISH_S)
        return reported(folder), next(server.numbers)


def test_clients_count_what_they_ask(tmp_path: Path) -> None:
    """A service that always gives the same numbers is right, and has had as many requests."""
    report, requests = report_of(tmp_path, "Pictures", lambda _: (200, {"findings": 1}))
    assert report.wrong == ()
    assert report.rounds == {"Pictures": requests}
    assert report.statuses == {"200": requests}
    assert [(kind.name, kind.count) for kind in report.kinds] == [("POST picture", requests)]
    assert report.ended_s - report.began_s == pytest.approx(2, abs=1)


@pytest.mark.parametrize(
    ("classes", "answer", "sentence"),
    [
        ("Pictures", lambda at: (200, {"findings": at}), "PNG: other numbers than at first"),
        ("Monitors", lambda _: (500, {}), "/health/live: 500 instead of (200,)"),
        ("Mistakes", lambda _: (503, {"code": "unavailable"}), "503 unavailable"),
        ("Pictures", lambda _: (503, {"code": "busy"}), "picture: 503 without Retry-After"),
    ],
)  # fmt: skip
def test_a_wrong_service_is_seen(
    tmp_path: Path, classes: str, answer: Callable[[int], tuple[int, object]], sentence: str
) -> None:
    """The first wrong answer ends the load, and the report says what was wrong."""
    report, requests = report_of(tmp_path, classes, answer)
    assert len(report.wrong) == 1
    assert report.wrong[0].endswith(sentence)
    assert requests <= 2


def test_only_loopback_is_loaded(tmp_path: Path) -> None:
    """Another host is refused before anything is sent, and no report is wrong, too."""
    with clients("http://192.0.2.1:80", 1, tmp_path) as process:
        assert process.wait(FINISH_S) == 1
    assert "expected a service on 127.0.0.1, found 192.0.2.1" in (tmp_path / LOG).read_text()
    assert "without a report" in reported(tmp_path).wrong[0]
