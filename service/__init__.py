"""Inference service: a CT goes in; liver and tumour masks, contours and volumes come out."""

__version__ = "0.1.0"
