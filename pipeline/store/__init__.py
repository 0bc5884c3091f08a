"""Stage store: volumes, labels and the split by patient, on disk."""
