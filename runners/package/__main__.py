"""`python -m rfwp`: the command line."""

import sys

from rfwp.runners.cli import main

if __name__ == "__main__":
    sys.exit(main())
