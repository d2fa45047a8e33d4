"""Training configurations that come with the package, as YAML files. Importing this needs no torch.

A recipe is put together of the parts in `recipes/parts.yaml`: `alfworld-qwen2.5-7b-8gpu` is that of a suite, a model
and a number of GPUs.
"""

from functools import cache
from importlib.resources import files
from typing import Any

from sdar_envs.files.yaml_text import read_yaml

__all__ = ["config_names", "config_summary", "config_text", "recipe_names", "recipe_parts"]


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


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes: suite, model, number of GPUs."""
    parts = _parts()
    return tuple(
        f"{suite}-{model}-{count}gpu"
        for suite in parts["suites"]
        for model in parts["models"]
        for count in parts["gpus"]
    )


def recipe_parts(name: str) -> list[dict[str, Any]]:
    """Return the parts of a recipe; the later ones override the earlier ones.

    Args:
        name: one of `recipe_names()`.
    """
    parts = _parts()
    suite, _, rest = name.partition("-")
    model, _, count = rest.removesuffix("gpu").rpartition("-")
    return [parts["every"], parts["suites"][suite], parts["models"][model], parts["gpus"][int(count)][model]]


@cache
def _parts() -> dict[str, Any]:
    text = files(__name__).joinpath("recipes", "parts.yaml").read_text(encoding="utf-8")
    parts: dict[str, Any] = read_yaml(text, "recipes/parts.yaml")
    return parts
