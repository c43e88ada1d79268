"""From a training run to the ONNX file that the service loads."""
