"""What can go wrong, each with the exit code that scripts rely on (see the README)."""

from __future__ import annotations


class LdctError(Exception):
    """A failure that a user can act on: one line that says what, where and what to do."""

    exit_code = 1


class ConfigError(LdctError):
    """Wrong usage or configuration."""

    exit_code = 2


class NothingUsableError(LdctError):
    """Nothing in the input could be used."""

    exit_code = 3
