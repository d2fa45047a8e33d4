"""Weight files of models: pickled ones are refused, because reading a pickle can run code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["PICKLED", "pickle_problem", "pickled_weights"]

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
"""Ends of the names of files that torch and pickle read."""


def pickled_weights(model: str) -> list[str]:
    """Return the pickled files of a model that has no others; none for a name on the hub.

    Args:
        model: a folder, a file, or a name on the hub.
    """
    path = Path(model).expanduser()
    if path.is_file():
        return _pickled([path.name])
    if not path.is_dir():
        return []
    names = sorted(found.name for found in path.iterdir())
    is_model = "config.json" in names or "adapter_config.json" in names
    return [] if not is_model or any(name.endswith(".safetensors") for name in names) else _pickled(names)


def pickle_problem(names: Iterable[str]) -> str:
    """Return what is wrong with pickled weights, and what to do."""
    return (
        f"its weights are pickled ({', '.join(names)}), and reading a pickle can run code: wanted safetensors. If you "
        "trust the file, convert it once, by AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
    )


def _pickled(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.endswith(PICKLED)]
