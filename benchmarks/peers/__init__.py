"""`python -m benchmarks.peers`: the same ONNX file behind LitServe and behind BentoML.

The two servers are written as their documentation advises, in an environment of their own
(`make bench-peers`), and import nothing of the service.
"""
