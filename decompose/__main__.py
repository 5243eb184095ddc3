"""`python -m decompose` is `decompose`."""

import sys

from decompose.cli import main

if __name__ == "__main__":
    sys.exit(main())
