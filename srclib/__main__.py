"""`python -m srclib`: the command line."""

from __future__ import annotations

import sys

from .suite.cli import main

if __name__ == "__main__":  # worker processes import this module without running it
    sys.exit(main())
