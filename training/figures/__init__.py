"""Figures of data, training and evaluation, drawn with Matplotlib without a screen."""
