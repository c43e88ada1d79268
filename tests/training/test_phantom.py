"""Phantoms for training are as many different cases as asked for."""

from pathlib import Path

from training.phantom import write_phantoms


def test_no_case_of_one_seed_is_a_case_of_another(tmp_path: Path) -> None:
    """So that a model may be measured on phantoms that it never saw."""
    for seed in (0, 1):
        write_phantoms(tmp_path / str(seed), cases=5, slices=2, size=32, seed=seed)
    volumes = [path.read_bytes() for path in tmp_path.glob("*/volume-*.nii")]
    assert len(set(volumes)) == len(volumes) == 10
