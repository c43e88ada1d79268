"""Durable segmentations: what was accepted is finished, whatever happens to the process."""
