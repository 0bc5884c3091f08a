"""DICOM series of phantoms and of generated images."""
