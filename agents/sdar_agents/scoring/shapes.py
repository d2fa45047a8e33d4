"""Rank and shape checks of tensor arguments: a wrong shape is an error, never a broadcast."""

from __future__ import annotations

from torch import Tensor

from sdar_envs.errors import InvalidOption

__all__ = ["check_shapes"]


def check_shapes(axes: str, **tensors: Tensor | None) -> None:
    """Check that tensors have the same shape, with one axis per letter.

    It compares shapes alone: about a microsecond per tensor, and no synchronisation with an accelerator.

    Args:
        axes: a letter per axis, such as `BL`.
        **tensors: by the argument's name; None is skipped.

    Raises:
        InvalidOption: the message names the argument, the shape that came and the one that was wanted.
    """
    first = ""
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if not first:
            if tensor.dim() != len(axes):
                raise InvalidOption(f"{name} must have the shape {_letters(axes)}: got {tuple(tensor.shape)}.")
            first, wanted = name, tensor.shape
        elif tensor.shape != wanted:
            raise InvalidOption(
                f"{name} must have the shape {_letters(axes)} = {tuple(wanted)} of {first}: got {tuple(tensor.shape)}."
            )


def _letters(axes: str) -> str:
    return f"({axes},)" if len(axes) == 1 else f"({', '.join(axes)})"
