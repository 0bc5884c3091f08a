"""Losses by the short path that configurations use."""
