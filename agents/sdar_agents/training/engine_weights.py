"""Weight synchronisation: brings the weights of the trained model to the engine that generates.

An engine has weights of its own if the run has several processes (the trained model is sharded), if
`model.generation_dtype` asks for another type, or if it is a server. Otherwise it uses the trained model itself.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sdar_agents.engines.policy import Policy
from sdar_agents.learner.sharding import whole_weights
from sdar_agents.parallel import World

__all__ = ["EngineWeights", "GenerationCopy", "WeightReceiver"]


@runtime_checkable
class WeightReceiver(Protocol):
    """Protocol of what has weights of its own."""

    def load_weights(self, weights: Iterator[tuple[str, Tensor]], *, version: int) -> None:
        """Take over weights, named as in the model without adapters.

        Args:
            weights: names and whole tensors, to be read to the end.
            version: number of the training steps that made them.
        """
        ...


class GenerationCopy:
    """A copy of a model to generate with, in another type or on each of several ranks.

    Args:
        model: without adapters.
        dtype: of the copy; None for the model's own.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None) -> None:
        self.model: Any = copy.deepcopy(model).requires_grad_(False).eval()
        if dtype is not None:
            self.model = self.model.to(dtype)

    @torch.no_grad()
    def load_weights(self, weights: Iterator[tuple[str, Tensor]], *, version: int) -> None:
        """Copy the weights into the model."""
        own = dict(self.model.named_parameters())
        for name, tensor in weights:
            own[name].copy_(tensor)


class EngineWeights:
    """Keeps the weights of an engine at those of the trained model. All methods are collective.

    Args:
        model: that is trained.
        policy: the engine.
        generation: the copy that it generates with; None if there is none.
        world: the ranks.

    Attributes:
        score: log-probabilities of given tokens under the trained model (`Learner.score_ids`), for the probe of
            engines that have one; None for no probe.
    """

    def __init__(self, model: nn.Module, policy: Policy, generation: GenerationCopy | None, world: World) -> None:
        self._policy = policy
        self._model = model
        self._world = world
        self._version: int | None = None
        self._receivers: list[WeightReceiver] = [] if generation is None else [generation]
        self._server = policy if isinstance(policy, WeightReceiver) else None
        self._wanted: list[float] | None = None
        self.score: Callable[[Sequence[int]], list[float]] | None = None

    def bring(self, version: int) -> dict[str, float]:
        """Bring the engine to the present weights, unless it has them.

        Args:
            version: number of training steps so far.

        Returns:
            The metric `time/sync` if there is something to bring, and `sampler/probe_difference` of an engine with a
            probe, which is the mean difference of log-probabilities to the trained model.

        Raises:
            RunStopped: the engine has other weights than the trained model.
        """
        if self._version == version or not (self._receivers or self._server):
            return {}
        started = time.perf_counter()
        for receiver in self._receivers:
            receiver.load_weights(whole_weights(self._model), version=version)
        if self._server is not None:
            # All ranks gather; the first one sends.
            weights = whole_weights(self._model)
            if self._world.is_first:
                self._server.load_weights(weights, version=version)
            else:
                for _ in weights:
                    pass
            self._world.from_first(lambda: None)
            self._policy.version = version  # type: ignore[attr-defined]
        self._version = version
        if self.score is not None and hasattr(self._policy, "check_probe"):
            self._wanted = self.score(self._policy.probe_ids())  # type: ignore[attr-defined]
        return {**self._probe(self._world), "time/sync": time.perf_counter() - started}

    def recover(self, world: World) -> None:
        """Bring an engine back whose servers have ended or do not answer, with the weights that it had.

        Those are in a folder still, so the trained model may have changed meanwhile.

        Args:
            world: the ranks that call this.

        Raises:
            EndpointError: it does not come back.
        """
        policy: Any = self._policy

        def start_again() -> list[str]:
            policy.recover()
            policy.load_again(version=self._version)
            addresses: list[str] = policy.addresses
            return addresses

        policy.follow(world.from_first(start_again))
        policy.version = self._version
        self._probe(world)

    def _probe(self, world: World) -> dict[str, float]:
        """Return the metric of the probe; none without one."""
        wanted, policy = self._wanted, self._policy
        if wanted is None:
            return {}
        check = policy.check_probe  # type: ignore[attr-defined]
        return {"sampler/probe_difference": world.from_first(lambda: float(check(wanted)))}
