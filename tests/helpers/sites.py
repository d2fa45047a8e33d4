"""A catalogue for tests of the site."""

from pathlib import Path

EDGE = Path(__file__).parents[1] / "envs" / "webshop" / "data" / "catalogue_edge200"
