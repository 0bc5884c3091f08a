"""DICOM input and output; what cannot be read or written exactly is refused, with the reason."""

from pydicom import config

# pydicom validates every value it reads and prints invalid ones, which may be a patient's. This
# package validates the attributes that it uses; copied attributes must stay as they are.
config.settings.reading_validation_mode = config.IGNORE
