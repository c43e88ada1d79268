"""Slices that a data set left out keep those beside them apart."""

import numpy as np
import pytest
from labelled_cases import make_case

from training.evaluation.stack import Stack, slice_step


def blank(count: int) -> np.ndarray:
    return np.zeros((count, 2, 2), dtype=np.uint8)


def test_step_is_that_of_the_data_set() -> None:
    """A case of which only every sixth slice is there has the step of the others."""
    dense = make_case("dense", blank(5), numbers=[0, 12, 14, 16, 18])
    sparse = make_case("sparse", blank(3), numbers=[0, 12, 24])
    assert slice_step([dense, sparse]) == 2
    assert slice_step([make_case("single", blank(1))]) == 1
    assert Stack.of(sparse, 2).depth == 13


@pytest.mark.parametrize("numbers", [[0, 3, 6], [0, 2, 5]])
def test_a_step_that_tears_all_apart_is_refused(numbers: list[int]) -> None:
    """Every second slice in one case, every third in another, or one gap that is odd: no step fits
    both, and with 1 nothing would touch anything.
    """
    second = make_case("second", blank(4), numbers=[0, 2, 4, 6])
    with pytest.raises(ValueError, match=r"most of them 2 apart .* multiple of that, in third$"):
        slice_step([second, make_case("third", blank(3), numbers=numbers)])


def test_gaps_are_filled_and_taken_out_again() -> None:
    """Numbers 10, 12, 18 in steps of 2: two slices are missing before the last."""
    case = make_case("case", blank(3), numbers=[10, 12, 18])
    stack = Stack.of(case, 2)
    slices = np.arange(1, 13, dtype=np.int16).reshape(3, 2, 2)
    whole = stack.fill(slices, -1024)
    assert whole[:, 0, 0].tolist() == [1, 5, -1024, -1024, 9]
    assert np.array_equal(stack.take(whole), slices)


def test_whole_volume_is_left_as_it_is() -> None:
    """No copy of a volume without gaps."""
    slices = blank(3)
    stack = Stack.of(make_case("case", slices, numbers=[4, 5, 6]), 1)
    assert stack.is_whole
    assert stack.fill(slices) is slices
    assert stack.take(slices) is slices


def test_numbers_that_do_not_fit_the_step_are_refused() -> None:
    """The step was that of other cases."""
    with pytest.raises(ValueError, match="odd: expected slices a multiple of 2 apart"):
        Stack.of(make_case("odd", blank(2), numbers=[0, 3]), 2)
