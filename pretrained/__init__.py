"""Models that come with the software; see pipeline/pretrained.py."""
