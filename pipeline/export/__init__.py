"""Stage export: results as DICOM series, labels, pictures and deployable models."""
