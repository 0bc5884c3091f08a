"""`python -m flows.cli`, as torchrun starts it: the same as `ldct`."""

from flows.cli.app import main

main()
