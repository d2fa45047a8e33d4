"""The command line of `sdar`."""

from sdar_benchmarks.cli.main import main

__all__ = ["main"]
