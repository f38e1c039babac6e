"""`python -m hybridattn` is the `hybridattn` command."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
