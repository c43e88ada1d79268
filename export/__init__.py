"""From a training run to the ONNX file that the service loads."""

import service  # noqa: F401  # before ONNX Runtime, which it keeps quiet
