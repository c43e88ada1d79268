"""Delivering by DICOMweb to destinations that take all, some or none."""

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from pacs.servers import (
    JSON,
    Archive,
    Behaviour,
    Handler,
    Seen,
    as_instance,
    found,
    reset,
    stall,
    status,
    stored,
    trickle,
    trickle_headers,
    unused_port,
)
from pydicom import Dataset

from service.errors import Cancelled, DeadlineExceeded
from service.pacs import receipts
from service.pacs.delivery import Receipt, deliver
from service.pacs.nodes import DicomwebNode
from service.pacs.receipts import Instance
from service.phantom_files import PHANTOM_NAME
from service.settings import Settings
from service.stopping import StopSignal


@pytest.fixture
def instances(datasets: list[Dataset]) -> list[Instance]:
    names = ("seg", "sr", "rtstruct", "overlays", "overlays", "overlays")
    return [as_instance(*pair) for pair in zip(datasets, names, strict=True)]


@pytest.fixture
def uids(instances: list[Instance]) -> list[str]:
    return [instance.sop_instance_uid for instance in instances]


def ends(told: Sequence[Receipt]) -> list[tuple[str, str | None]]:
    return [(receipt.status, receipt.code) for receipt in told]


def answer(code: int, body: object) -> Behaviour:
    return status(code, json.dumps(body).encode(), Content_Type=JSON)


def sent(archive: Archive) -> list[list[str]]:
    """The instances of each request."""
    return [[str(dataset.SOPInstanceUID) for dataset in seen.stored] for seen in archive.seen]


def test_all_stored(
    archive: Archive, node: DicomwebNode, quick: Settings, instances: list[Instance]
) -> None:
    """In one request, to the study, each instance to the byte; a receipt for each in order."""
    told = deliver(node, instances, quick, StopSignal())
    assert told == tuple(
        Receipt(
            object=instance.object_name,
            sop_instance_uid=instance.sop_instance_uid,
            status="stored",
        )
        for instance in instances
    )
    (seen,) = archive.seen
    assert seen.path == f"/dicom-web/studies/{archive.study}"
    assert re.fullmatch(
        r'multipart/related; type="application/dicom"; boundary=\w+', seen.headers["content-type"]
    )
    assert seen.headers["accept"] == JSON
    assert seen.headers["content-length"] == str(len(seen.body))
    assert all(instance.data() in seen.body for instance in instances)
    assert len(seen.stored) == 6


def test_nothing_to_send(archive: Archive, node: DicomwebNode, quick: Settings) -> None:
    assert deliver(node, [], quick, StopSignal()) == ()
    assert not archive.seen


def native(code: int, body: str, kind: str = "application/dicom+xml; charset=UTF-8") -> Behaviour:
    space = 'xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM"'
    whole = f'<?xml version="1.0"?><NativeDicomModel {space}>{body}</NativeDicomModel>'
    return status(code, whole.encode(), Content_Type=kind)


def xml_items(tag: str, reason: str, items: dict[str, int]) -> str:
    found = "".join(
        f'<Item number="{number}"><DicomAttribute tag="00081155" vr="UI"><Value number="1">{uid}'
        f'</Value></DicomAttribute><DicomAttribute tag="{reason}" vr="US"><Value number="1">{code}'
        "</Value></DicomAttribute></Item>"
        for number, (uid, code) in enumerate(items.items(), 1)
    )
    return f'<DicomAttribute tag="{tag}" vr="SQ">{found}</DicomAttribute>'


@pytest.mark.parametrize("form", ["json", "list", "xml", "xml as text", "text numbers"])
@pytest.mark.parametrize("code", [200, 202, 409])
def test_outcomes_of_single_instances(
    archive: Archive,
    node: DicomwebNode,
    quick: Settings,
    instances: list[Instance],
    uids: list[str],
    code: int,
    form: str,
) -> None:
    """What the body says of an instance counts, whatever the status, in JSON and in XML."""
    failed = {uids[0]: 0x0111, uids[1]: 0xA900, uids[2]: 0x0110, uids[3]: 0xC123}
    warned = {uids[4]: 0xB000, uids[5]: 0}
    said = stored(failed, warned)
    xml = xml_items("00081198", "00081197", failed) + xml_items("00081199", "00081196", warned)
    if form == "text numbers":
        said["00081198"]["Value"][1]["00081197"]["Value"] = ["0xA900"]
        said["00081198"]["Value"][0]["00081197"]["Value"] = ["273"]
    archive.script(
        "store",
        {
            "json": answer(code, said),
            "text numbers": answer(code, said),
            "list": answer(code, [said]),
            "xml": native(code, xml),
            "xml as text": native(code, xml, "text/plain"),
        }[form],
    )
    assert ends(deliver(node, instances, quick, StopSignal())) == [
        ("already_stored", "0x0111"),
        ("refused", "0xA900"),
        ("refused", "0x0110"),
        ("refused", "0xC123"),
        ("stored", "0xB000"),
        ("stored", None),
    ]
    assert len(archive.seen) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{",
        b"[]",
        b"[3]",
        b"<html><body>thank you",
        b"<html>thank you</html>",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({"00081198": {"Value": 3}, "00081199": [1]}).encode(),
        b'<?xml version="1.0" encoding="klingon"?><a/>',
        b'<!DOCTYPE a [<!ENTITY b "%s">]><a>%s</a>' % (b"c" * 10_000, b"&b;" * 100_000),
        b"<a>" * 100_000,
        b" " * 3_000_000,
    ],
)
def test_answers_that_name_no_instance(
    archive: Archive,
    node: DicomwebNode,
    quick: Settings,
    instances: list[Instance],
    body: bytes,
) -> None:
    """Are as their status says."""
    archive.script("store", status(200, body, Content_Type=JSON))
    assert ends(deliver(node, instances, quick, StopSignal())) == [("stored", None)] * 6
    archive.script("store", status(409, body, Content_Type=JSON))
    assert ends(deliver(node, instances, quick, StopSignal())) == [("refused", "409")] * 6
    assert len(archive.seen) == 2


@pytest.mark.parametrize("reason", ["nothing", -1, 70_000, None, [], "9" * 5000])
def test_reasons_that_are_none(
    archive: Archive,
    node: DicomwebNode,
    quick: Settings,
    instances: list[Instance],
    uids: list[str],
    reason: object,
) -> None:
    """The instance is refused all the same."""
    archive.script("store", found(stored({uids[0]: reason, uids[1]: 0, uids[2]: 0xB000})))
    told = ends(deliver(node, instances[:3], quick, StopSignal()))
    assert told == [("refused", "200")] * 3


def test_204_is_a_success(
    archive: Archive, node: DicomwebNode, quick: Settings, instances: list[Instance]
) -> None:
    archive.script("store", status(204))
    assert ends(deliver(node, instances, quick, StopSignal())) == [("stored", None)] * 6


def taking(refused: Sequence[str], code: int, most_bytes: int = 10**9) -> Behaviour:
    """Refuses some, and never says which."""

    def behave(handler: Handler, archive: Archive, seen: Seen) -> None:
        names = [dataset.SOPInstanceUID for dataset in seen.stored]
        bad = [name for name in names if name in refused]
        if len(seen.body) > most_bytes:
            handler.reply(413)
        elif bad:
            handler.reply(409 if len(bad) == len(names) else code)
        else:
            handler.reply(200)

    return behave


def test_some_stored_without_names(
    archive: Archive,
    node: DicomwebNode,
    quick: Settings,
    instances: list[Instance],
    uids: list[str],
) -> None:
    """202 without a body: smaller requests show which."""
    archive.always("store", taking([uids[1]], 202))
    told = ends(deliver(node, instances, quick, StopSignal()))
    assert told == [("refused", "409") if i == 1 else ("stored", None) for i in range(6)]
    assert list(map(len, sent(archive))) == [6, 3, 2, 1, 1, 1, 3]


def test_some_stored_with_some_names(
    archive: Archive,
    node: DicomwebNode,
    quick: Settings,
    instances: list[Instance],
    uids: list[str],
) -> None:
    """What a partial success leaves unnamed is sent again, alone."""
    archive.script("store", answer(202, stored({uids[0]: 0xA900}, dict.fromkeys(uids[1:4], 0))))
    told = ends(deliver(node, instances, quick, StopSignal()))
    assert told == [("refused", "0xA900")] + [("stored", None)] * 5
    assert sent(archive) == [uids, uids[4:]]


def test_one_stored_with_202(
    archive: Archive, node: DicomwebNode, quick: Settings, instances: list[Instance]
) -> None:
    """Of one instance it cannot be a part; it is a warning."""
    archive.always("store", status(202))
    assert ends(deliver(node, instances[:1], quick, StopSignal())) == [("stored", None)]


@pytest.mark.parametrize("tag", ["00081198", "0008119A"])
def test_failures_without_names(
    archive: Archive,
    node: DicomwebNode,
    quick: Settings,
    instances: list[Instance],
    uids: list[str],
    tag: str,
) -> None:
    """Some servers tell of what they could not read without its name, with status 200."""
    vague = {tag: {"Value": [{"00081197": {"Value": [0xC000]}}]}}

    def behave(handler: Handler, archive: Archive, seen: Seen) -> None:
        bad = uids[2] in [dataset.SOPInstanceUID for dataset in seen.stored]
        found(vague if bad else {})(handler, archive, seen)

    archive.always("store", behave)
    told = ends(deliver(node, instances, quick, StopSignal()))
    assert told == [("refused", "200") if i == 2 else ("stored", None) for i in range(6)]


def test_a_request_too_large(
    archive: Archive, node: DicomwebNode, quick: Settings, instances: list[Instance]
) -> None:
    """Is sent as smaller ones, down to one instance each."""
    archive.always("store", taking([], 200, most_bytes=20_000))
    assert ends(deliver(node, instances, quick, StopSignal())) == [("stored", None)] * 6
    archive.always("store", status(413))
    assert ends(deliver(node, instances, quick, StopSignal())) == [("refused", "413")] * 6


@pytest.mark.parametrize("code", [302, 400, 404, 406, 415])
def test_refused_requests(
    archive: Archive, node: DicomwebNode, quick: Settings, instances: list[Instance], code: int
) -> None:
    """Are not sent again, nor to another address."""
    archive.always("store", status(code, PHANTOM_NAME.encode(), Location=f"{archive.url}/other"))
    assert ends(deliver(node, instances, quick, StopSignal())) == [("refused", str(code))] * 6
    assert len(archive.seen) == 1


@pytest.mark.parametrize("code", [401, 403, 407])
def test_not_let_in(
    archive: Archive,
    node: DicomwebNode,
    quick: Settings,
    instances: list[Instance],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once is enough, also where more requests would follow: names are locked after three."""
    monkeypatch.setattr(receipts, "_BATCH_INSTANCES", 2)
    archive.always("store", status(code))
    told = deliver(node, instances, quick, StopSignal())
    assert ends(told) == [("refused", str(code))] * 6
    assert len(archive.seen) == 1


def test_large_deliveries(
    archive: Archive,
    node: DicomwebNode,
    quick: Settings,
    instances: list[Instance],
    uids: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Go in several requests, by number and by size; an instance is read when it is its turn."""
    monkeypatch.setattr(receipts, "_BATCH_INSTANCES", 4)
    deliver(node, instances, quick, StopSignal())
    assert sent(archive) == [uids[:4], uids[4:]]
    monkeypatch.setattr(receipts, "_BATCH_BYTES", 20_000)
    deliver(node, instances, quick, StopSignal())
    assert sent(archive)[2:] == [uids[:2], uids[2:4], uids[4:]]


def test_studies_apart(
    archive: Archive, node: DicomwebNode, quick: Settings, instances: list[Instance]
) -> None:
    """A request is for one study."""
    other = Instance("seg", "1.2.3", *("1.2", "1.2.3.4"), instances[0].data)
    deliver(node, [*instances[:2], other], quick, StopSignal())
    paths = [seen.path.rsplit("/", 1)[1] for seen in archive.seen]
    assert paths == [archive.study, "1.2.3"]


PASSING: dict[str, Behaviour] = {
    "reset": reset,
    "408": status(408),
    "429": status(429, Retry_After="0"),
    "500": status(500, PHANTOM_NAME.encode()),
    "503": status(503, Retry_After="0"),
}


@pytest.mark.parametrize("case", PASSING)
def test_failures_that_pass(
    archive: Archive,
    node: DicomwebNode,
    quick: Settings,
    instances: list[Instance],
    uids: list[str],
    case: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The body is sent whole again, and nothing that was stored before."""
    monkeypatch.setattr(receipts, "_BATCH_INSTANCES", 4)
    archive.script("store", status(200), PASSING[case], PASSING[case])
    assert ends(deliver(node, instances, quick, StopSignal())) == [("stored", None)] * 6
    assert sent(archive) == [uids[:4], uids[4:], uids[4:], uids[4:]]


def test_out_of_resources_passes(
    archive: Archive,
    node: DicomwebNode,
    quick: Settings,
    instances: list[Instance],
    uids: list[str],
) -> None:
    """0xA7xx is tried again, for those instances only."""
    archive.script("store", answer(202, stored({uids[1]: 0xA700}, dict.fromkeys(uids, 0))))
    assert ends(deliver(node, instances, quick, StopSignal())) == [("stored", None)] * 6
    assert sent(archive) == [uids, [uids[1]]]


@pytest.mark.parametrize(
    ("case", "code"),
    [("reset", "unreachable"), ("408", "408"), ("429", "429"), ("500", "500"), ("503", "503")],
)
def test_failures_that_stay(
    archive: Archive,
    node: DicomwebNode,
    brief: Settings,
    instances: list[Instance],
    case: str,
    code: str,
) -> None:
    """Become receipts, and no exception; the last code is theirs."""
    archive.always("store", PASSING[case])
    told = deliver(node, instances, brief, StopSignal())
    assert ends(told) == [("failed", code)] * 6
    assert PHANTOM_NAME not in str(told)
    assert len(archive.seen) > 1


def test_resources_that_stay_used(
    archive: Archive,
    node: DicomwebNode,
    brief: Settings,
    instances: list[Instance],
    uids: list[str],
) -> None:
    archive.always("store", answer(409, stored({uids[0]: 0xA701})))
    told = deliver(node, instances[:1], brief, StopSignal())
    assert ends(told) == [("failed", "0xA701")]


def test_nobody_listens(brief: Settings, instances: list[Instance]) -> None:
    node = DicomwebNode(name="archive", url=f"http://127.0.0.1:{unused_port()}")
    told = deliver(node, instances, brief, StopSignal())
    assert ends(told) == [("failed", "unreachable")] * 6


@pytest.mark.parametrize("behaviour", [stall, trickle_headers])
def test_slow_answers(
    archive: Archive,
    node: DicomwebNode,
    hasty: Settings,
    instances: list[Instance],
    behaviour: Behaviour,
) -> None:
    """Are waited for no longer than the time-out."""
    archive.always("store", behaviour)
    started = time.monotonic()
    told = deliver(node, instances, hasty, StopSignal())
    assert ends(told) == [("failed", "unreachable")] * 6
    assert time.monotonic() - started < 4


def test_a_destination_that_does_not_read(hasty: Settings) -> None:
    """What is sent fills the buffers and then stands."""
    large = Instance("overlays", "1.2", "1.3", "1.4", lambda: bytes(20_000_000))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(10)
        node = DicomwebNode(name="a", url=f"http://127.0.0.1:{listening.getsockname()[1]}")
        started = time.monotonic()
        told = deliver(node, [large], hasty, StopSignal())
    assert ends(told) == [("failed", "unreachable")]
    assert time.monotonic() - started < 4


def test_an_answer_whose_body_crawls(
    archive: Archive, node: DicomwebNode, hasty: Settings, instances: list[Instance]
) -> None:
    """Its status is known, so it counts."""
    archive.always("store", trickle(b" " * 400))
    assert ends(deliver(node, instances, hasty, StopSignal())) == [("stored", None)] * 6


@pytest.mark.parametrize("reason", ["stopped", "deadline"])
@pytest.mark.parametrize("behaviour", [stall, status(503, Retry_After="60")])
def test_stop(
    archive: Archive,
    node: DicomwebNode,
    instances: list[Instance],
    behaviour: Behaviour,
    reason: str,
) -> None:
    """Is the only thing that is raised, and within a second."""
    archive.always("store", behaviour)
    stop = StopSignal(deadline_s=0.2 if reason == "deadline" else None)
    if reason == "stopped":
        threading.Timer(0.2, stop.stop, [Cancelled("enough")]).start()
    started = time.monotonic()
    with pytest.raises(Cancelled if reason == "stopped" else DeadlineExceeded):
        deliver(node, instances, Settings(pacs_timeout_s=30, pacs_retry_s=60), stop)
    assert time.monotonic() - started < 2


def test_credentials(
    archive: Archive, quick: Settings, instances: list[Instance], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("word")
    node = DicomwebNode(name="archive", url=archive.url, token_file=secret)
    deliver(node, instances, quick, StopSignal())
    secret.unlink()
    told = deliver(node, instances, Settings(pacs_retry_s=0), StopSignal())
    assert ends(told) == [("failed", "credentials")] * 6
    assert [seen.headers["authorization"] for seen in archive.seen] == ["Bearer word"]


def test_many_receipts(
    archive: Archive, node: DicomwebNode, quick: Settings, instances: list[Instance]
) -> None:
    """One that is given twice is sent once and has its receipt twice."""
    told = deliver(node, [*instances, instances[0]], quick, StopSignal())
    assert Counter(ends(told)) == {("stored", None): 7}
    assert len(archive.seen[0].stored) == 6
