"""Sending to and fetching from a PACS: DICOMweb and DIMSE, by the names of the operator's file."""
