"""DICOM in and out: exact, or refused by name."""
