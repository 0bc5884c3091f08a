"""DICOM copies without identity, by PS3.15 annex E."""
