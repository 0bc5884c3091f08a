"""Reading labels: masks, DICOM SEG and RTSTRUCT, LIDC outlines, on the grid of their image."""
