"""DICOM in and out: exact, or refused by name."""

from pydicom import config

# pydicom checks every value it reads and prints the odd ones, which may be a patient's; what is
# read here is checked by name, and what is copied to a derived object must stay as it was.
config.settings.reading_validation_mode = config.IGNORE
