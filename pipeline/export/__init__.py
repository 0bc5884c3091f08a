"""Stage export: results as DICOM series, labels and pictures, and models as ONNX and pt2."""
