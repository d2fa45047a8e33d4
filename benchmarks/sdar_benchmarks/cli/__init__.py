"""Command line interface `sdar`: one module for each verb, with its parser and its function."""

from sdar_benchmarks.cli.main import main

__all__ = ["main"]
