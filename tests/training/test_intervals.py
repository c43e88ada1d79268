"""Bootstrap intervals: reproducible, right in width, and honest where there is little to say."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from training.evaluation.bootstrap import (
    Estimate,
    estimate,
    largest,
    mean,
    mean_estimate,
    ratio,
)


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


def test_patients_are_drawn_and_not_their_cases() -> None:
    """Two patients of three equal cases each: the mean of a resample is 0, 0.5 or 1, as for two
    cases, whatever the order; of one patient there is no interval.
    """
    values, patients = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0], ["a", "b", "a", "b", "a", "b"]
    found = mean_estimate(values, patients)
    assert (found.value, found.low, found.high, found.cases) == (0.5, 0, 1, 6)
    alone = mean_estimate(values)
    assert alone.low is not None
    assert alone.low > 0
    assert mean_estimate(values, ["a"] * 6).low is None
    # The case that is left out takes its patient with it.
    assert mean_estimate([*values, None], [*patients, "c"]) == replace(found, left_out=1)


def test_deviation_is_of_a_sample() -> None:
    """Of 1, 2 and 6: squares of 2, 1 and 3 over n - 1."""
    assert mean_estimate([1.0, 2.0, 6.0]).deviation == pytest.approx(np.sqrt(14 / 2))


def test_largest_has_no_interval() -> None:
    """A resample never holds a larger one."""
    assert largest([0.1, 0.4, 0.2]) == Estimate(0.4, None, None, cases=3)
    assert largest([]) == Estimate(None, None, None, cases=0)


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
