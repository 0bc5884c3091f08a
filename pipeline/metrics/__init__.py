"""Figures of an image pair or a set of images."""
