"""The command line `ldct`."""
