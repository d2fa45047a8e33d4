"""Activations that are computed twice instead of being kept, under the names of any release of transformers."""

from __future__ import annotations

from typing import Any

__all__ = ["checkpoint_activations", "keep_activations"]


def checkpoint_activations(model: Any) -> None:
    """Let a Hugging Face model compute its activations again in the backward pass."""
    name = _name(model)
    getattr(model, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})


def keep_activations(model: Any) -> None:
    """Let it keep them again."""
    getattr(model, f"{_name(model)}_disable")()


def _name(model: Any) -> str:
    # Renamed in transformers 5.24.
    return f"{'activation' if hasattr(model, 'activation_checkpointing_enable') else 'gradient'}_checkpointing"
