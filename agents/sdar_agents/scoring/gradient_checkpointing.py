"""Gradient checkpointing of Hugging Face models: activations are recomputed in the backward pass, not kept."""

from __future__ import annotations

from typing import Any

__all__ = ["disable_gradient_checkpointing", "enable_gradient_checkpointing"]


def enable_gradient_checkpointing(model: Any) -> None:
    """Turn gradient checkpointing on: less memory, one forward pass more."""
    name = _name(model)
    getattr(model, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})


def disable_gradient_checkpointing(model: Any) -> None:
    """Turn gradient checkpointing off."""
    getattr(model, f"{_name(model)}_disable")()


def _name(model: Any) -> str:
    # Renamed in transformers 5.24.
    return f"{'activation' if hasattr(model, 'activation_checkpointing_enable') else 'gradient'}_checkpointing"
