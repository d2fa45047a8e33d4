"""Weight snapshots of a model: the reference policy, EMA teacher, frozen teacher, weights of a rollout.

    reference = Weights(model)
    with reference.in_place_of(model):
        score_rows(model, ...)

Only trainable parameters are copied, so with LoRA a snapshot costs no more than the adapter, and the snapshot taken
before the first step is the base model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sdar_agents.learner.sharding import is_sharded, local_part, put_whole, reshard
from sdar_envs.errors import InvalidOption

__all__ = ["Weights", "fingerprint"]


class Weights:
    """Snapshot of a model's trainable parameters.

    Args:
        model: whose parameters are copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self._tensors = {name: parameter.detach().clone() for name, parameter in _trainable(model)}

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Context in which the model has these weights. Never between a forward pass and its backward pass."""
        if is_sharded(model):
            # FSDP gathers from buffers of its own: the values are exchanged, not the tensors.
            self._exchange(model)
            try:
                yield
            finally:
                self._exchange(model)
            return
        own = {}
        for name, parameter in _trainable(model):
            own[name] = parameter.data
            parameter.data = self._tensors[name]
        try:
            yield
        finally:
            for name, parameter in _trainable(model):
                parameter.data = own[name]

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        reshard(model)
        for name, parameter in _trainable(model):
            theirs, kept = local_part(parameter), local_part(self._tensors[name])
            before = theirs.clone()
            theirs.copy_(kept)
            kept.copy_(before)

    @torch.no_grad()
    def follow(self, model: nn.Module, decay: float) -> None:
        """EMA update: `w = decay w + (1 - decay) theta`; with decay 0 a copy of the model's parameters.

        Args:
            model: with the parameters theta.
            decay: from 0 to 1.
        """
        for name, parameter in _trainable(model):
            tensor, theirs = local_part(self._tensors[name]), local_part(parameter)
            if decay == 0.0:
                tensor.copy_(theirs)
            else:
                tensor.lerp_(theirs.to(tensor.dtype), 1.0 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors by name; not copies."""
        return dict(self._tensors)

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Load tensors by name.

        Raises:
            InvalidOption: they belong to another model.
        """
        for name, tensor in self._tensors.items():
            if name not in tensors or tensors[name].shape != tensor.shape:
                raise InvalidOption(
                    f"the weights have no {name} of the shape {tuple(tensor.shape)}: they are another model's."
                )
            put_whole(tensor, tensors[name])


def fingerprint(model: nn.Module) -> str:
    """Checksum of all parameters: equal if and only if two models are the same bit for bit."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        digest.update(parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _trainable(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
