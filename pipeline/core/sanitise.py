"""Words from outside, made harmless before they are told."""

from __future__ import annotations

LONGEST = 500


def plain(text: str) -> str:
    """One line without control characters: what a header, a file name or a server says may neither
    forge a line of a log nor steer a terminal."""
    one_line = "".join(sign if sign.isprintable() else " " for sign in text)
    return " ".join(one_line.split())[:LONGEST]
