"""Training configurations that come with the package, as YAML files. Importing this needs no torch."""

from importlib.resources import files

__all__ = ["config_names", "config_summary", "config_text"]


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


def config_summary(name: str) -> str:
    """Return what a configuration is for: the comment in the first line of its file.

    Args:
        name: one of `config_names()`.
    """
    return config_text(name).partition("\n")[0].removeprefix("#").strip()
