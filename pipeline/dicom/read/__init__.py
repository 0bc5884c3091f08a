"""From files to series to a Volume in HU."""
