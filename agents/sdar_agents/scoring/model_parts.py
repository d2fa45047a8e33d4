"""Parts of a Hugging Face causal language model: backbone, head, dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sdar_envs.errors import InvalidOption

__all__ = ["causal_lm", "disable_dropout", "language_backbone", "plain_head", "scoring_mode"]


def causal_lm(model: nn.Module) -> nn.Module:
    """Return the causal language model, unwrapped from peft's model if it is in one."""
    inner: nn.Module = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return inner


def language_backbone(model: nn.Module) -> nn.Module:
    """Return the transformer without its language-model head.

    Raises:
        InvalidOption: the model is no Hugging Face causal language model.
    """
    whole = causal_lm(model)
    backbone = getattr(whole, "base_model", whole)
    if backbone is whole or not isinstance(backbone, nn.Module):
        raise InvalidOption(f"{type(model).__name__} is no Hugging Face causal language model: load one of those.")
    return backbone


def plain_head(model: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Return the weight `(V, H)` and the bias `(V,)` or None of a linear language-model head.

    Raises:
        InvalidOption: the logits are not the plain product of hidden states and head.
    """
    whole = causal_lm(model)
    config = whole.config
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise InvalidOption(
                f"{type(whole).__name__} changes its logits ({name} is {getattr(config, name)}), which is not "
                "implemented: use a model with a plain head, such as Qwen2, Qwen3 or Llama."
            )
    head = whole.get_output_embeddings()  # type: ignore[operator]
    if type(head) is not nn.Linear:
        raise InvalidOption(
            f"the head of {type(whole).__name__} is {type(head).__name__}; wanted a plain Linear. With LoRA, leave "
            "lm_head out of the target modules."
        )
    return head.weight, head.bias


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout probability of a model to 0.

    With dropout, the importance ratio of new to old policy would not be 1 before the first optimiser step. Evaluation
    mode would do too, but gradient checkpointing needs training mode.
    """
    for module in model.modules():
        for name in _dropouts(module):
            setattr(module, name, 0.0)


def _dropouts(module: nn.Module) -> list[str]:
    """Return the names of a module's attributes that are dropout probabilities above 0."""
    names = [name for name in vars(module) if name.endswith("dropout")]
    if isinstance(module, nn.modules.dropout._DropoutNd):
        names.append("p")
    return [name for name in names if isinstance(value := getattr(module, name), (int, float)) and value > 0]


@contextmanager
def scoring_mode(model: nn.Module) -> Iterator[None]:
    """Context without dropout: evaluation mode if gradients are off; otherwise the mode stays as it is.

    Raises:
        InvalidOption: gradients are on and the model is in training mode with dropout.
    """
    if torch.is_grad_enabled():
        if any(module.training and _dropouts(module) for module in model.modules()):
            raise InvalidOption("the model is in training mode and has dropout: call disable_dropout(model) first.")
        yield
        return
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
