"""`python -m ldct`: the same as `ldct`."""

from ldct.command import main

main()
