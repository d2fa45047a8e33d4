"""LoRA adapters around a model, and its weights from a checkpoint. Needs the extra `lora` where there are adapters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdar_agents.training.config import LoraSettings
from sdar_envs.importing import import_extra

__all__ = ["add_adapters", "load_weights"]


def add_adapters(model: nn.Module, settings: LoraSettings, *, seed: int) -> nn.Module:
    """Wrap a model in LoRA adapters, which alone require a gradient.

    Args:
        model: a Hugging Face causal language model.
        settings: rank, scale and layers.
        seed: of the adapters' weights. Torch's random state is left as it was.

    Raises:
        MissingExtra: peft is not installed.
    """
    peft: Any = import_extra("peft", extra="lora", purpose="model.lora")
    targets: Any = settings.targets if settings.targets == "all-linear" else re.split(r"[,\s]+", settings.targets)
    config = peft.LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=targets, task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted: nn.Module = peft.get_peft_model(model, config)
    return adapted


def load_weights(model: Any, folder: Path) -> None:
    """Load the weights of a checkpoint into a model of the same kind: all of them, or those of its adapters."""
    if hasattr(model, "peft_config"):
        peft: Any = import_extra("peft", extra="lora", purpose="model.lora")
        tensors = peft.utils.load_peft_weights(str(folder), device="cpu")
        peft.set_peft_model_state_dict(model, tensors)
        return
    loaded = type(model).from_pretrained(folder, dtype=model.dtype)
    model.load_state_dict(loaded.state_dict())
