"""The command line `ldct`."""


def main() -> None:
    """What the `ldct` of an editable install by the version before calls; now flows.cli.app's."""
    from flows.cli.app import main as run_command

    run_command()
