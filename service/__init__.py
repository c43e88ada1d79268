"""Inference service: a CT goes in; liver and tumour masks, contours and volumes come out."""

import os

__version__ = "0.1.0"

# ONNX Runtime tells its makers of the machine and its sessions, unless this stands before its
# import; its `disable_telemetry_events` comes too late. No patient's data leave this house, nor
# what it runs on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
