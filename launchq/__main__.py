"""`python -m launchq` is the command `launchq`."""

from launchq.cli import main

main()
