"""Bootstrap intervals: reproducible, right in width, and honest where there is little to say."""

import numpy as np
import pytest
from scipy import stats

from training.evaluation.bootstrap import Estimate, estimate, mean, mean_estimate, ratio


def test_interval_is_scipys() -> None:
    """The same percentiles as scipy.stats.bootstrap, which draws other resamples."""
    values = np.random.default_rng(3).beta(5, 2, 30)
    ours = mean_estimate(list(values))
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(4)
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    # 2,000 resamples leave the ends uncertain by about a twentieth of the width.
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=width / 20)


def test_same_values_give_the_same_interval() -> None:
    """The seed is fixed: a report can be made again."""
    values: list[float | None] = [0.1, 0.5, 0.7, 0.9]
    assert mean_estimate(values) == mean_estimate(values)


def test_nothing_to_estimate_is_none() -> None:
    """No case at all, and cases for which the figure is not defined."""
    assert mean_estimate([]) == Estimate(None, None, None, cases=0)
    assert mean_estimate([None, None]) == Estimate(None, None, None, cases=0, left_out=2)
    assert estimate(np.zeros((3, 2)), ratio) == Estimate(None, None, None, cases=3)


def test_single_value_has_no_interval() -> None:
    """One case says nothing of others; the ones left out are counted."""
    assert mean_estimate([0.5, None]) == Estimate(0.5, None, None, cases=1, left_out=1)


def test_equal_values_have_an_interval_of_no_width() -> None:
    """Nothing varies between the cases that there are."""
    assert estimate(np.full((4, 1), 0.25), mean) == Estimate(0.25, 0.25, 0.25, cases=4)


def test_resamples_without_a_figure_are_left_out() -> None:
    """With one case in three that has lesions, some resamples have none to divide by."""
    rows = np.array([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    assert estimate(rows, ratio) == Estimate(0.5, 0.5, 0.5, cases=3)
