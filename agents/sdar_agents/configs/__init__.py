"""Training configurations that come with the package, as YAML files. Importing this needs no torch."""

from importlib.resources import files

__all__ = ["config_names", "config_text"]


def config_names() -> tuple[str, ...]:
    """Return the names of the configurations, sorted."""
    names = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def config_text(name: str) -> str:
    """Return the YAML of a configuration.

    Args:
        name: one of `config_names()`.
    """
    return files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
