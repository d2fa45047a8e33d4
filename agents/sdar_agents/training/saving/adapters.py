"""LoRA adapters around a model, and its weights from a checkpoint. Needs the extra `lora` where there are adapters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from sdar_agents.engines.transformers import without_peft_warning
from sdar_agents.learner.sharding import is_sharded, put_whole
from sdar_agents.training.config import LoraSettings
from sdar_envs.errors import CorruptData, InvalidOption, UnknownName, did_you_mean
from sdar_envs.importing import import_extra

__all__ = ["add_adapters", "load_weights"]


def add_adapters(model: nn.Module, settings: LoraSettings, *, seed: int, where: str = "model.lora.") -> nn.Module:
    """Wrap a model in LoRA adapters, which alone require a gradient.

    Args:
        model: a Hugging Face causal language model.
        settings: rank, scale and layers.
        seed: of the adapters' weights. Torch's random state is left as it was.
        where: what comes before the names of the settings in error messages.

    Raises:
        MissingExtra: peft is not installed.
        UnknownName: the model has no layer of one of these names.
        InvalidOption: peft refuses the layers, or the model has fewer blocks.
    """
    peft: Any = import_extra("peft", extra="lora", purpose=f"{where}rank")
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=_targets(model, settings, where),
        task_type="CAUSAL_LM",
        layers_to_transform=_last_blocks(model, settings.blocks, where),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            with without_peft_warning():
                adapted: nn.Module = peft.get_peft_model(model, config)
        except ValueError as error:
            raise InvalidOption(
                f"{where}targets is {settings.targets!r}, which peft refuses ({' '.join(str(error).split())}); "
                "wanted names of linear layers, or all-linear."
            ) from error
    return adapted


def _targets(model: nn.Module, settings: LoraSettings, where: str) -> str | list[str]:
    """Return the layers for peft: a name of its own, or names; each must be that of a layer, or the end of its path."""
    if settings.targets == "all-linear" and settings.blocks is None:
        return "all-linear"
    paths = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Embedding, Conv1D))]
    if settings.targets == "all-linear":
        # peft takes no blocks beside its own name.
        head = model.get_output_embeddings()  # type: ignore[operator]
        linear = [
            path
            for path in paths
            if not isinstance(layer := model.get_submodule(path), nn.Embedding) and layer is not head
        ]
        return list(dict.fromkeys(path.rpartition(".")[2] for path in linear))
    names = [name for name in re.split(r"[,\s]+", settings.targets) if name]
    known = list(dict.fromkeys(path.rpartition(".")[2] for path in paths))
    for name in names:
        if not any(path == name or path.endswith(f".{name}") for path in paths):
            raise UnknownName(
                f"{where}targets has {name!r}, and the model has no layer of that name; it has {', '.join(known)}; "
                f"all-linear is all but the head.{did_you_mean(name, known)}"
            )
    if not names:
        raise InvalidOption(
            f"{where}targets is {settings.targets!r}; wanted all-linear, or some of {', '.join(known)}."
        )
    return names


def _last_blocks(model: Any, count: int | None, where: str) -> list[int] | None:
    """Return the numbers of the last so many blocks; None for all."""
    if count is None:
        return None
    blocks = model.config.get_text_config().num_hidden_layers
    if count > blocks:
        raise InvalidOption(f"{where}blocks is {count}, and the model has {blocks}: lower it, or leave it out.")
    return list(range(blocks - count, blocks))


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
        if is_sharded(model):
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    put_whole(parameter, tensors[name.replace(".default.", ".")].to(parameter.device))
            return
        peft.set_peft_model_state_dict(model, tensors)
        return
    if is_sharded(model):
        loaded = AutoModelForCausalLM.from_pretrained(
            folder, dtype=model.dtype, trust_remote_code=False, use_safetensors=True
        )
        whole = dict(loaded.named_parameters())
        for name, parameter in model.named_parameters():
            put_whole(parameter, whole[name].detach().to(parameter.device))
        return
    loaded = type(model).from_pretrained(folder, dtype=model.dtype, trust_remote_code=False, use_safetensors=True)
    model.load_state_dict(loaded.state_dict())
