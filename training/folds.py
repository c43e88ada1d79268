"""Folds for cross-validation, by patient."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from training.data import Case, Dataset


@dataclass(frozen=True)
class Fold:
    """One division of a data set; no patient is in both."""

    number: int
    training: Dataset
    held_out: Dataset


def patients_of(cases: Iterable[Case], same_patient: Sequence[Sequence[str]]) -> dict[str, str]:
    """The patient of every case: the first name of its group, or its own.

    Raises ValueError for a name that there is not, or that is in two groups.
    """
    names = {case.name for case in cases}
    patients: dict[str, str] = {}
    for group in same_patient:
        for name in group:
            if name not in names:
                known = f"such as {min(names)}, " if names else ""
                raise ValueError(
                    f"same_patient in the configuration: expected names of cases, {known}found "
                    f"{name}"
                )
            if name in patients:
                raise ValueError(
                    f"same_patient in the configuration: expected {name} in one group, found it in "
                    "two"
                )
            patients[name] = group[0]
    return {name: patients.get(name, name) for name in sorted(names)}


def make_folds(data: Dataset, patients: Mapping[str, str], folds: int) -> tuple[Fold, ...]:
    """Share the patients out, those with most tumour first, each to the fold with fewest cases that
    have tumour and then fewest tumour pixels; those without tumour to the fold with fewest of them.

    So the few patients that hold most tumour come into different folds, and every fold has its part
    of those that have any. Nothing is random. Raises ValueError where a fold would be empty.
    """
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in data.cases:
        groups[patients[case.name]].append(case)
    if len(groups) < 2:
        raise ValueError(f"expected at least two patients to make folds of, found {len(groups)}")
    if not 2 <= folds <= len(groups):
        raise ValueError(f"expected 2 to {len(groups)} folds (one patient each), found {folds}")
    held_out: list[list[Case]] = [[] for _ in range(folds)]
    for group in sorted(groups.values(), key=_most_tumor_first):
        burden = _tumor_burden if any(case.tumor_px for case in group) else _tumor_free
        min(held_out, key=burden).extend(group)
    return tuple(_fold(data, number, cases) for number, cases in enumerate(held_out))


def check_apart(training: Dataset, held_out: Dataset, patients: Mapping[str, str]) -> None:
    """Raises ValueError where a patient is on both sides, or a side is empty."""
    for name, side in (("training", training), ("held-out", held_out)):
        if not side.cases:
            raise ValueError(f"expected {name} cases, found none")
    seen = {patients[case.name]: case.name for case in training.cases}
    for case in held_out.cases:
        if patients[case.name] in seen:
            raise ValueError(
                f"expected each patient on one side, found {case.name} held out and "
                f"{seen[patients[case.name]]} in training"
            )


def _fold(data: Dataset, number: int, held_out: list[Case]) -> Fold:
    names = {case.name for case in held_out}
    others = {case.name for case in data.cases} - names
    return Fold(number, data.only(others), data.only(names))


def _most_tumor_first(group: list[Case]) -> tuple[int, int, str]:
    return -sum(case.tumor_px for case in group), -len(group), group[0].name


def _tumor_burden(cases: list[Case]) -> tuple[int, int]:
    return sum(case.tumor_px > 0 for case in cases), sum(case.tumor_px for case in cases)


def _tumor_free(cases: list[Case]) -> tuple[int, int]:
    return sum(case.tumor_px == 0 for case in cases), len(cases)
