"""What the fuzzer once found stays mended."""

import pytest
from conftest import ROOT

from reliability.case import Case
from reliability.judge import judge

CORPUS = sorted((ROOT / "reliability" / "corpus").glob("*.json"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_finding(path) -> None:
    """Every request of the corpus is answered or refused as it should be."""
    assert judge(Case.from_json(path.read_text())).finding == ""


def test_the_corpus_is_small() -> None:
    """It is committed, so it holds what is needed and no more."""
    assert CORPUS
    assert sum(path.stat().st_size for path in CORPUS) < 300_000
