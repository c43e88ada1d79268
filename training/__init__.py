"""Training of the segmentation networks; nothing here is needed to serve them."""

import service  # noqa: F401  # before ONNX Runtime, which it keeps quiet
