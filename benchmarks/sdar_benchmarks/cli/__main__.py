"""`python -m sdar_benchmarks.cli`: the same as `sdar`."""

import sys

from sdar_benchmarks.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
