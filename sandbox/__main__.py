"""``python -m sandbox``: the simulated cloud as a process of its own."""

import sys

from sandbox.command import main

sys.exit(main())
