"""Sharding (FSDP2): parameters, gradients and optimizer states of a model divided among the ranks of a run.

    shard(model, world)
    scores = run_sharded(model, score, model, sequences, mask)
    for name, tensor in whole_weights(model): ...

Each layer is a group of parameters that is gathered for its forward and its backward pass and freed after each; what is
outside of the layers (embedding, last norm, head) is another. The parameters of a sharded model are DTensors. Scoring
calls the backbone and reads the head outside of the model's `forward`, at which FSDP would gather the parameters:
`run_sharded` is a forward method of the whole model that calls any function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sdar_agents.parallel import World
from sdar_agents.scoring.model_parts import causal_lm
from sdar_envs.errors import InvalidOption

__all__ = [
    "is_sharded",
    "load_optimizer",
    "local_part",
    "put_whole",
    "reshard",
    "run_sharded",
    "shard",
    "whole",
    "whole_weights",
]

ResultT = TypeVar("ResultT")

_METHOD = "run_gathered"


def shard(model: nn.Module, world: World) -> None:
    """Shard a model in place, after adapters were added to it and before its optimizer is made. Collective.

    Args:
        model: a Hugging Face causal language model, or peft around one, whole and equal on all ranks.
        world: the ranks.

    Raises:
        InvalidOption: the model does not say what its layers are.
    """
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415  (not needed in one process)
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method  # noqa: PLC0415

    root: Any = causal_lm(model)
    layers = _layers(root)
    mesh = init_device_mesh(next(root.parameters()).device.type, (world.size,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(root, mesh=mesh)
    setattr(root, _METHOD, MethodType(_call, root))
    register_fsdp_forward_method(root, _METHOD)


def is_sharded(model: nn.Module) -> bool:
    """Return whether `shard` was called on a model."""
    return hasattr(causal_lm(model), _METHOD)


def run_sharded(model: nn.Module, function: Callable[..., ResultT], *args: Any, **kwargs: Any) -> ResultT:
    """Call a function in which all parameters of a sharded model can be read; its tensors may be differentiated.

    Layers are gathered when they run, the other parameters for the whole call. Collective: the function calls the
    backbone equally often on all ranks.
    """
    result: ResultT = getattr(causal_lm(model), _METHOD)(function, *args, **kwargs)
    return result


def reshard(model: nn.Module) -> None:
    """Free the gathered parameters, so that the next pass gathers them anew from the local parts."""
    from torch.distributed.fsdp import FSDPModule  # noqa: PLC0415

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def local_part(tensor: Tensor) -> Tensor:
    """Return this rank's part of a DTensor, sharing its memory; any other tensor as it is."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def whole(tensor: Tensor) -> Tensor:
    """Return a DTensor gathered from all ranks, without gradient; any other tensor as it is. Collective."""
    gathered: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return gathered.detach()


@torch.no_grad()
def put_whole(target: Tensor, values: Tensor) -> None:
    """Copy the values of a whole tensor into a tensor, of a DTensor into this rank's part.

    Args:
        target: changed.
        values: of the same shape; the same on all ranks.
    """
    if not hasattr(target, "to_local"):
        target.copy_(values)
        return
    mesh: Any = target.device_mesh  # type: ignore[attr-defined]
    # As `fully_shard` cuts: along the first axis, in pieces of equal size but for the last.
    pieces = values.chunk(mesh.size(), dim=0)
    rank = mesh.get_local_rank()
    if rank < len(pieces):
        local_part(target).copy_(pieces[rank])


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load the state of an optimizer of whole parameters into one of sharded parameters, in the same order."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, values in state["state"].items():
        parameter = parameters[number]
        own = {}
        for name, value in values.items():
            own[name] = value
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                own[name] = torch.zeros_like(parameter)
                put_whole(own[name], value.to(parameter.device))
        optimizer.state[parameter] = own


def whole_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield names and whole tensors of the weights as the model without adapters has them, one at a time.

    Adapters are merged into the weights that they belong to. Tied weights come once, under their first name.
    Collective: all ranks iterate to the end.
    """
    root = causal_lm(model)
    reshard_after = is_sharded(model)
    if reshard_after:
        reshard(model)
    for name, parameter in root.named_parameters():
        if ".lora_" in name:
            continue
        tensor = whole(parameter)
        path, _, last = name.rpartition(".")
        if path.endswith(".base_layer"):
            path = path.removesuffix(".base_layer")
            if last == "weight":
                tensor = _with_adapters(root.get_submodule(path), tensor)
        yield (f"{path}.{last}" if path else last), tensor


def _with_adapters(layer: Any, weight: Tensor) -> Tensor:
    """Return the weight of a linear layer with its LoRA adapters added."""
    weight = weight.clone()
    for adapter in layer.active_adapters:
        if getattr(layer, "fan_in_fan_out", False) or adapter not in layer.lora_A:
            raise InvalidOption(f"{type(layer).__name__} is no plain LoRA layer, whose product can be merged.")
        up, down = whole(layer.lora_B[adapter].weight), whole(layer.lora_A[adapter].weight)
        weight += (layer.scaling[adapter] * (up.float() @ down.float())).to(weight.dtype)
    return weight


def _layers(root: Any) -> Sequence[nn.Module]:
    names = set(getattr(root, "_no_split_modules", None) or ())
    layers = [module for module in root.modules() if type(module).__name__ in names]
    if not layers:
        raise InvalidOption(
            f"{type(root).__name__} does not say what its layers are (_no_split_modules): train it in one process, or "
            "with learner.shard none."
        )
    return layers


def _call(_: nn.Module, function: Callable[..., ResultT], *args: Any, **kwargs: Any) -> ResultT:
    return function(*args, **kwargs)
