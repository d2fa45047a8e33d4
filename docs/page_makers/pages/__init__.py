"""Makers of the generated pages, one file each."""
