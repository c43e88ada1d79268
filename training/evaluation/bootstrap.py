"""How far a figure may be off, were the cases others of their kind."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 20230

Rows = NDArray[np.float64]
Statistic = Callable[[Rows], float]
"""From a row a case to one figure; not a number where it is not defined."""


@dataclass(frozen=True)
class Estimate:
    """A figure over `cases` cases, and the ends of its 95 % interval.

    `value` is None where there is nothing to take it over; the ends also where all cases are of one
    patient, who says nothing of others. `left_out` counts cases for which the figure is not
    defined. `deviation` is the standard deviation of a mean's values over cases (n - 1), None for
    other figures.
    """

    value: float | None
    low: float | None
    high: float | None
    cases: int
    left_out: int = 0
    deviation: float | None = None


def rows_of(values: Iterable[tuple[float, ...]], columns: int = 2) -> Rows:
    """A row a case; `columns` where there is no case."""
    found = list(values)
    return np.array(found, dtype=np.float64).reshape(len(found), -1 if found else columns)


def estimate(
    rows: Rows, statistic: Statistic, patients: Sequence[str] | None = None, left_out: int = 0
) -> Estimate:
    """Percentile bootstrap (Efron, Annals of Statistics 7, 1979) over patients, with a fixed seed.

    `rows`: what is known of each case [cases, columns]; `patients`: whose it is, all different
    unless given. All cases of a drawn patient come together. Resamples for which the statistic is
    not defined are left out of the percentiles.
    """
    count = len(rows)
    value = statistic(rows) if count else float("nan")
    if np.isnan(value):
        return Estimate(None, None, None, count, left_out)
    cases = _by_patient(range(count) if patients is None else patients)
    if len(cases) == 1:
        return Estimate(float(value), None, None, count, left_out)
    rng = np.random.default_rng(SEED)
    draws = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(len(cases), size=len(cases))
        # Where each patient has one case, their numbers are the same; joining takes far longer.
        numbers = drawn if len(cases) == count else np.concatenate([cases[one] for one in drawn])
        draws.append(statistic(rows[numbers]))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(draws, (tail, 100 - tail))
    return Estimate(float(value), float(low), float(high), count, left_out)


def _by_patient(patients: Sequence[Hashable]) -> list[list[int]]:
    """Numbers of the cases of each, patients in the order in which they first come."""
    cases: dict[Hashable, list[int]] = defaultdict(list)
    for number, patient in enumerate(patients):
        cases[patient].append(number)
    return list(cases.values())


def mean_estimate(
    values: Sequence[float | None], patients: Sequence[str] | None = None
) -> Estimate:
    """The mean over the values that there are; `patients` as many as values."""
    known = [number for number, value in enumerate(values) if value is not None]
    defined = np.array([values[number] for number in known], dtype=np.float64)
    found = estimate(
        defined.reshape(-1, 1),
        mean,
        None if patients is None else [patients[number] for number in known],
        left_out=len(values) - len(known),
    )
    deviation = float(defined.std(ddof=1)) if len(defined) > 1 else None
    return replace(found, deviation=deviation)


def largest(values: Sequence[float]) -> Estimate:
    """Without an interval: no resample holds a larger one, whatever other cases would hold."""
    return Estimate(max(values, default=None), None, None, len(values))


def mean(rows: Rows) -> float:
    """Of the first column."""
    return float(rows[:, 0].mean())


def ratio(rows: Rows) -> float:
    """Sum of the first column over that of the second; not a number where that is 0."""
    above, below = rows.sum(axis=0)
    return float(above / below) if below else float("nan")


def root_mean_square(rows: Rows) -> float:
    """Of the first column."""
    return float(np.sqrt(np.mean(rows[:, 0] ** 2)))
