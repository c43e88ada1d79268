"""A sender that may send to `listen`, and sends what should name or cost something."""

import io
import json
import re
import time
from pathlib import Path

import pytest
from dicom_files import series
from highdicom import Volume
from listen.harness import (
    ask,
    association,
    context_of,
    kept,
    listening,
    names,
    raw_request,
    send,
    whole,
)
from pydicom import Dataset
from pynetdicom.dsutils import encode
from security.harness import ITEM, sequence

from benchmarks.listen import wait
from service.listen.instance import CANNOT_UNDERSTAND
from service.listen.receiver import SUCCESS


@pytest.fixture(scope="module")
def slices(clean_volume: Volume) -> list[Dataset]:
    return series(clean_volume[10:13])


@pytest.mark.parametrize(
    "uid",
    ["../../../hostile", "*", "1.2\\hostile", "hostile\x00", "h" * 64, "a\nb"],
)
def test_uids(tmp_path: Path, clean_volume: Volume, logged: io.StringIO, uid: str) -> None:
    """Study and series of any text are kept under names of ours, and the log has none of it."""
    (dataset,) = series(clean_volume[10:11])
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = uid
    with listening(tmp_path / "data", listen_quiet_s=0.1) as port:
        assert send(port, dataset) == [SUCCESS]
        assert wait(lambda: whole(tmp_path / "data"))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert all(re.fullmatch(r"[a-z0-9.-]+", name) for name in names(tmp_path / "data"))
    assert "hostile" not in " ".join(names(tmp_path / "data"))
    assert len(kept(tmp_path / "data")) == 1
    assert "hostile" not in logged.getvalue()
    for line in logged.getvalue().splitlines():
        json.loads(line)


def test_items_before_the_identity(
    tmp_path: Path, slices: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands before the UIDs of an object is passed over, up to a bound."""
    monkeypatch.setattr("service.decode.headers._MOST_STEPS_PER_FILE", 20_000)
    with listening(tmp_path) as port, association(port, slices[0]) as made:
        assert not context_of(made).transfer_syntax[0].is_implicit_VR
        data = encode(slices[0], False, True)
        for items, expected in ((10, SUCCESS), (500_000, CANNOT_UNDERSTAND)):
            before = sequence(0x08, 0x51, ITEM * items, open_ended=True)
            started = time.process_time()
            assert ask(made, raw_request(slices[0], before + data)) == expected
            assert time.process_time() - started < 2
