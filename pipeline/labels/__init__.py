"""Labels in: masks, DICOM SEG and RTSTRUCT, LIDC outlines, each put on its image by geometry."""
