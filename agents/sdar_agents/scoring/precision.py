"""Precision of matrix products: which of them a device computes natively."""

from __future__ import annotations

import logging

import torch

__all__ = ["is_bfloat16_emulated", "warn_if_emulated"]

_log = logging.getLogger(__name__)


def is_bfloat16_emulated(device: torch.device) -> bool:
    """Return whether a device has no instructions for bfloat16: x86 processors without AVX-512."""
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("AVX2", "NO AVX")


def warn_if_emulated(device: torch.device, setting: str) -> None:
    """Log a warning if a setting asks for bfloat16 on a device that emulates it.

    Args:
        device: where the model is.
        setting: such as `learner.autocast`.
    """
    if is_bfloat16_emulated(device):
        _log.warning(
            "%s computes in bfloat16, for which this processor has no instructions: it may take ten times as long as "
            "float32. Set it to false.",
            setting,
        )
