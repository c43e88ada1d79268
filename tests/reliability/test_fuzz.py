"""The fuzzer sees what it is there to see."""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from faulty_judges import go_wrong

from reliability import mutate
from reliability.case import Case
from reliability.fuzz import Bounds, Worker, numbered_case, shrunk
from reliability.judge import Verdict, judge
from reliability.mutate import BLIND, BY_KIND
from reliability.seeds import Files, seeds
from service import pipeline
from service.decode.sniff import sniff
from service.errors import UnreadableFile
from service.phantom_files import PHANTOM_NAME
from service.pipeline import Options


@pytest.fixture(scope="module")
def valid() -> dict[str, Files]:
    return seeds()


def case(*files: bytes) -> Case:
    return Case("made by a test", files, Options(), "threshold")


def test_seeds_are_valid(valid: dict[str, Files]) -> None:
    """All but the strangers of pydicom's package are answered; the tilted one resampled."""
    strangers = {name for name in valid if name.endswith(".dcm")}
    for name in valid.keys() - strangers:
        options = Options(resample=name == "dicom tilted")
        if "16 bits" in name or "BigTIFF" in name:
            continue  # these need a window
        verdict = judge(Case(name, valid[name], options, "threshold"))
        assert verdict == Verdict("answered"), name


def test_a_number_makes_a_request(valid: dict[str, Files]) -> None:
    """The same seed and number give the same request, others another."""
    again = seeds()
    made = [numbered_case(1, number, valid) for number in range(70)]
    assert made == [numbered_case(1, number, again) for number in range(70)]
    assert made != [numbered_case(2, number, valid) for number in range(70)]


@pytest.mark.parametrize(
    "mutator", sorted({*BLIND, *(m for group in BY_KIND.values() for m in group)}, key=str)
)
def test_mutators_change_their_format(mutator: mutate.Mutator, valid: dict[str, Files]) -> None:
    """Each changes most files of the format that it is for."""
    kinds = [kind for kind, group in BY_KIND.items() if mutator in group]
    files = [file for group in valid.values() for file in group]
    meant = [file for file in files if not kinds or sniff(file) in kinds][:40]
    changed = Counter(mutator(random.Random(n), file) != file for n, file in enumerate(meant))
    assert changed[True] > len(meant) / 2


def test_a_corpus_file_is_the_case(valid: dict[str, Files]) -> None:
    """What is written down reads back the same, options included."""
    for number in range(20):
        made = numbered_case(3, number, valid)
        assert Case.from_json(made.to_json("found")) == made


def raises(error: Exception) -> Callable[..., object]:
    def run(*_: object) -> object:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "finding"),
    [
        (ValueError("secret"), "ValueError in run"),
        (MemoryError(), "MemoryError in run"),
        (UnreadableFile(f"Expected DICOM, found {PHANTOM_NAME}."), "holds text of a header"),
        (UnreadableFile("Expected DICOM, found a\nline."), "control characters"),
        (UnreadableFile("oops"), "not in the service's form"),
    ],
)
def test_a_wrong_end_is_found(
    error: Exception, finding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any error but a refusal, and a refusal in words that are not the service's."""
    monkeypatch.setattr(pipeline, "run", raises(error))
    found = judge(case(b"")).finding
    assert finding in found
    assert "secret" not in found


def test_what_a_library_prints_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text of a header on the process's own standard error, as native code writes there."""

    def run(*_: object) -> object:
        os.write(2, f"warning: {PHANTOM_NAME}".encode())
        raise UnreadableFile("Expected more, found less.")

    monkeypatch.setattr(pipeline, "run", run)
    assert judge(case(b"")).finding == "printed: warning: [name]"


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """Its wall time is far beyond its CPU time, which other work beside it stretches."""
    made = Worker(go_wrong, Bounds(cpu_s=2, wall_s=120, peak_mb=100))
    yield made
    made.close()


@pytest.fixture
def hurried_worker() -> Iterator[Worker]:
    made = Worker(go_wrong, Bounds(cpu_s=60, wall_s=6, peak_mb=100))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("what", "finding"),
    [
        (b"crash", "exit code -11"),
        (b"spin", "over 2 s of CPU"),
        (b"hoard", "over 100 MB"),
    ],
)
def test_what_ends_a_process_is_found(worker: Worker, what: bytes, finding: str) -> None:
    """A crash, a loop and hoarded memory belong to their request, and the next is well."""
    assert worker.judge(case(what)).verdict.finding == finding
    assert worker.judge(case(b"well")).verdict == Verdict("answered")


def test_a_hang_is_found(hurried_worker: Worker) -> None:
    """It belongs to its request, and the next is well."""
    assert hurried_worker.judge(case(b"sleep")).verdict.finding == "no end within 6 s"
    assert hurried_worker.judge(case(b"well")).verdict == Verdict("answered")


def test_findings_are_made_smaller(worker: Worker) -> None:
    """What is not needed for the finding goes."""
    found = shrunk(case(b"hoard", bytes(50), bytes(50)), "over 100 MB", worker)
    assert found.files[0] == b"hoard"
    assert sum(map(len, found.files)) < 20
