"""`python -m service listen`: a DIMSE receiver whose series become segmentations."""
