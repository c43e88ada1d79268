"""The smallest runs that still do all that a large one does."""

from typing import Any

from service.volume import HounsfieldWindow
from training.config import TrainingConfig

WINDOW = HounsfieldWindow(lower_hu=-40, upper_hu=160)

TINY_FILTERS = {"resnet50_unet": (4, 4, 4, 4, 4), "resnet50_fpn": (8, 8), "unet": (8, 4, 4),
                "unet++": (8, 4, 4)}  # fmt: skip
"""Filters of each architecture at their smallest that still does all it does."""


def tiny_config(**changes: Any) -> TrainingConfig:
    """Two epochs of two steps of a plain U-Net with a few hundred weights."""
    fields: dict[str, Any] = {
        "name": "tiny",
        "window": WINDOW,
        "grid": 64,
        "network": {"architecture": "unet", "filters": (8, 4), "norm_momentum": 0.9},
        "sampling": {"with_tumor": 1, "liver_only": 1, "without_liver": 0},
        "epochs": 2,
        "steps_per_epoch": 2,
        "optimizer": {"warmup_steps": 1},
        **changes,
    }
    return TrainingConfig.model_validate(fields)
