"""LoRA adapters around a model, and its weights from a checkpoint. Needs the extra `lora` where there are adapters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from sdar_agents.training.config import LoraSettings
from sdar_envs.errors import CorruptData, InvalidOption, UnknownName, did_you_mean
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
        UnknownName: the model has no layer of one of these names.
        InvalidOption: peft refuses the layers.
    """
    peft: Any = import_extra("peft", extra="lora", purpose="model.lora")
    targets: Any = "all-linear" if settings.targets == "all-linear" else _layers(model, settings.targets)
    config = peft.LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=targets, task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            adapted: nn.Module = peft.get_peft_model(model, config)
        except ValueError as error:
            raise InvalidOption(
                f"model.lora.targets is {settings.targets!r}, which peft refuses ({' '.join(str(error).split())}); "
                "wanted names of linear layers, or all-linear."
            ) from error
    return adapted


def _layers(model: nn.Module, targets: str) -> list[str]:
    """Return the names in a list of targets; each must be that of a layer, or the end of its path."""
    paths = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Embedding, Conv1D))]
    names = [name for name in re.split(r"[,\s]+", targets) if name]
    known = list(dict.fromkeys(path.rpartition(".")[2] for path in paths))
    for name in names:
        if not any(path == name or path.endswith(f".{name}") for path in paths):
            raise UnknownName(
                f"model.lora.targets has {name!r}, and the model has no layer of that name; it has {', '.join(known)}; "
                f"all-linear is all but the head.{did_you_mean(name, known)}"
            )
    if not names:
        raise InvalidOption(f"model.lora.targets is {targets!r}; wanted all-linear, or some of {', '.join(known)}.")
    return names


def load_weights(model: Any, folder: Path) -> None:
    """Load the weights of a checkpoint into a model of the same kind: all of them, or those of its adapters.

    Raises:
        CorruptData: the weights of the adapters are missing.
    """
    if hasattr(model, "peft_config"):
        peft: Any = import_extra("peft", extra="lora", purpose="model.lora")
        if not (folder / "adapter_model.safetensors").is_file():  # peft would look for pickled ones, and on the hub
            raise CorruptData(f"{folder} has no adapter_model.safetensors: delete the checkpoint, or restore the file.")
        tensors = peft.utils.load_peft_weights(str(folder), device="cpu")
        peft.set_peft_model_state_dict(model, tensors)
        return
    loaded = type(model).from_pretrained(folder, dtype=model.dtype, trust_remote_code=False, use_safetensors=True)
    model.load_state_dict(loaded.state_dict())
