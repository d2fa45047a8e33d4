"""A catalogue for tests of the site."""

from pathlib import Path

EDGE = Path(__file__).parent / "data" / "catalogue_edge200"
