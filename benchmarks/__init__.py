"""Measurements; each module is one command and prints what `docs/performance.md` holds."""

import service  # noqa: F401  # before ONNX Runtime, which it keeps quiet
