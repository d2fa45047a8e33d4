"""Designs of studies that come with the package, as YAML files."""

from importlib.resources import files

__all__ = ["design_names", "design_text"]


def design_names() -> tuple[str, ...]:
    """Return the names of the designs, sorted."""
    names = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def design_text(name: str) -> str:
    """Return the YAML of a design.

    Args:
        name: one of `design_names()`.
    """
    return files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
