"""Images that are not DICOM: NIfTI, NRRD, MetaImage, PNG, JPEG and TIFF."""
