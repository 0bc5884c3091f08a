"""The command `ldct`."""

from __future__ import annotations


def main() -> None:
    """Run it; this package has by then seen to it that `flows` is this software's."""
    from flows.cli.app import main as run

    run()
