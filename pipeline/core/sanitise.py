"""Text from outside, made harmless before it is printed or logged."""

from __future__ import annotations

MAX_LENGTH = 500


def printable_line(text: str) -> str:
    """One line without control characters: what a header, a file name or a server says may neither
    forge a line of a log nor steer a terminal."""
    one_line = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(one_line.split())[:MAX_LENGTH]
