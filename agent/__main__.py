"""`python -m agent`: the command line without an installed script."""

import sys

from agent.cli import main

sys.exit(main())
