"""Folds keep patients together and share tumour out."""

import pytest

from training.data import Case, Dataset, LabelledSlice
from training.folds import check_apart, make_folds, patients_of


class NoPixels:
    """Folds look at counts only."""

    def hu(self, index: int) -> None:
        raise AssertionError("a fold read pixels")

    labels = hu


def case(name: str, tumor_px: int) -> Case:
    item = LabelledSlice(name, 0, 1000 + tumor_px, tumor_px, NoPixels())  # type: ignore[arg-type]
    return Case(name, (item,), "0")


DATA = Dataset(
    tuple(
        case(f"v{number}", tumor)
        for number, tumor in enumerate((5, 900, 0, 7, 800, 20, 0, 700, 30, 0, 3, 11))
    )
)
TOGETHER = (("v5", "v8", "v3"),)


def test_every_case_is_held_out_once_and_patients_stay_together() -> None:
    """The held-out cases of all folds are the data set, and training is the rest."""
    patients = patients_of(DATA.cases, TOGETHER)
    folds = make_folds(DATA, patients, 3)
    held_out = [case.name for fold in folds for case in fold.held_out.cases]
    assert sorted(held_out) == sorted(case.name for case in DATA.cases)
    for fold in folds:
        check_apart(fold.training, fold.held_out, patients)
        assert len(fold.training.cases) + len(fold.held_out.cases) == 12
        names = {case.name for case in fold.held_out.cases}
        assert len(names & {"v3", "v5", "v8"}) in (0, 3)


def test_tumour_is_shared_out() -> None:
    """The three cases with most tumour are apart, and each fold has one case without any."""
    for fold in make_folds(DATA, patients_of(DATA.cases, ()), 3):
        names = {case.name for case in fold.held_out.cases}
        assert len(names & {"v1", "v4", "v7"}) == 1
        assert sum(case.tumor_px == 0 for case in fold.held_out.cases) == 1


def test_folds_do_not_depend_on_the_order_of_the_cases() -> None:
    """The same cases from another listing give the same folds."""
    other = Dataset(tuple(reversed(DATA.cases)))
    patients = patients_of(DATA.cases, TOGETHER)
    names = [
        [
            sorted(case.name for case in fold.held_out.cases)
            for fold in make_folds(data, patients, 4)
        ]
        for data in (DATA, other)
    ]
    assert names[0] == names[1]


@pytest.mark.parametrize("folds", [1, 13])
def test_folds_that_cannot_be_made_are_refused(folds: int) -> None:
    """One fold holds nothing out, and more folds than patients leave one empty."""
    with pytest.raises(ValueError, match="expected 2 to 12 folds"):
        make_folds(DATA, patients_of(DATA.cases, ()), folds)
    one = DATA.only({DATA.cases[0].name})
    with pytest.raises(
        ValueError, match="expected at least two patients to make folds of, found 1"
    ):
        make_folds(one, patients_of(one.cases, ()), 2)


def test_groups_name_cases_that_there_are_once() -> None:
    """A name that is unknown, or in two groups, is refused, and where it stands is said."""
    expected = "same_patient in the configuration: expected names of cases, such as v0, found v99"
    with pytest.raises(ValueError, match=expected):
        patients_of(DATA.cases, (("v1", "v99"),))
    with pytest.raises(ValueError, match="expected v2 in one group"):
        patients_of(DATA.cases, (("v1", "v2"), ("v2", "v3")))


def test_a_patient_on_both_sides_is_named() -> None:
    """Also where the two cases have different names; an empty side is refused too."""
    patients = patients_of(DATA.cases, TOGETHER)
    with pytest.raises(ValueError, match="found v5 held out and v8 in training"):
        check_apart(DATA.only({"v8"}), DATA.only({"v5"}), patients)
    with pytest.raises(ValueError, match="expected held-out cases, found none"):
        check_apart(DATA, Dataset(()), patients)
