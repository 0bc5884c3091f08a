"""The YAML of a hospital: its keys, and which series its rules select."""
