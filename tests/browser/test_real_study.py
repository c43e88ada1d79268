"""A real CT, from the upload to its lesion."""

from pathlib import Path

import pytest
from browser.harness import Visit, changed, column_of, greenish, yellow

pytestmark = [pytest.mark.browser, pytest.mark.real_ct]


def test_real_ct(visit: Visit, real_ct: Path) -> None:
    """The liver is coloured where it belongs, and its largest lesion is gone to."""
    visit.show(real_ct)
    lesion = visit.job()["findings"]["lesions"][0]
    visit.expect_slice(lesion["largest_slice"] + 1)
    overlaid = visit.picture()
    assert yellow(overlaid).sum() > 20
    visit.overlay(liver=False, tumor=False)
    plain = visit.picture()
    assert not greenish(plain).any()
    assert changed(plain, overlaid).mean() > 0.02
    assert column_of(greenish(overlaid)) < 0.47
    assert visit.violations() == []
